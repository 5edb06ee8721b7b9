#include "server/http/http_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>  // for Boost.Asio 1.74, which uses std::exchange without it
//
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/http/http_connection.h"
#include "server/http/router.h"
#include "server/http/tls_context.h"

namespace adamoe {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

// Threads that read bodies, tokenize and submit, so that the one that moves bytes never does.
constexpr int kNumWorkers = 2;
// Connections beyond max_connections that are served health.
constexpr int kMaxHealthConnections = 64;
// Until the next try where the process has no more file descriptors.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

std::string Unbracketed(const std::string& host) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return bracketed ? host.substr(1, host.size() - 2) : host;
}

}  // namespace

// Everything of it but Start, Shutdown and what is guarded belongs to the thread of io_.
class HttpServer::Core {
 public:
  Core(const Options& options, const CallContext& context)
      : options_(options),
        router_(context, [this] { return IsHealthy(); }),
        work_(boost::asio::make_work_guard(io_)),
        acceptor_(io_),
        pause_(io_) {
    if (options.tls != nullptr) tls_.emplace(options.tls);
    server_.router = &router_;
    server_.limits.body_bytes = options.max_body_bytes;
    server_.timeouts.head = options.head_timeout;
    server_.timeouts.body = options.body_timeout;
    server_.timeouts.idle = options.idle_timeout;
    server_.timeouts.stall = options.stall_timeout;
    server_.run = [this](std::function<void()> work) {
      boost::asio::post(workers_, std::move(work));
    };
    server_.closed = [this](HttpConnection* connection) { Remove(connection); };
  }

  ~Core() { Shutdown(absl::ZeroDuration()); }

  absl::Status Start() {
    if (tls_.has_value()) RETURN_IF_ERROR(tls_->Get().status());
    RETURN_IF_ERROR(Listen());
    Accept();
    io_thread_ = std::thread([this] { io_.run(); });
    return absl::OkStatus();
  }

  int port() const { return port_; }

  int num_connections() const ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    return num_connections_;
  }

  void StopServing() { serving_ = false; }

  void StopAccepting() {
    router_.StopAccepting();
    if (!io_thread_.joinable()) return;
    boost::asio::post(io_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
      pause_.cancel();
      ForEach([](HttpConnection& connection) { connection.Drain(); });
    });
  }

  void Shutdown(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_) {
    if (!io_thread_.joinable()) return;
    StopServing();
    StopAccepting();
    // An accept may still be on its way when the first look is taken.
    while (!AwaitNoConnections(timeout)) {
      boost::asio::post(
          io_, [this] { ForEach([](HttpConnection& connection) { connection.Abort(); }); });
      timeout = absl::Milliseconds(100);
    }
    workers_.join();
    work_.reset();
    io_thread_.join();
  }

 private:
  absl::Status Listen() {
    const std::string host = Unbracketed(options_.host);
    tcp::resolver resolver(io_);
    error_code error;
    const auto found = resolver.resolve(host, std::to_string(options_.port),
                                        tcp::resolver::numeric_service, error);
    if (error) return CannotListen(error);
    for (const auto& entry : found) {
      error = TryListen(entry.endpoint());
      if (!error) return absl::OkStatus();
    }
    return CannotListen(error);
  }

  error_code TryListen(const tcp::endpoint& endpoint) {
    error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(boost::asio::socket_base::max_listen_connections, error);
    if (!error) port_ = acceptor_.local_endpoint(error).port();
    if (error) {
      error_code ignored;
      acceptor_.close(ignored);
    }
    return error;
  }

  absl::Status CannotListen(const error_code& error) const {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.host, ":",
                                               options_.port, ": ", error.message()));
  }

  void Accept() {
    acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) return PauseAccepting(error);
      Add(std::move(socket));
      Accept();
    });
  }

  void PauseAccepting(const error_code& error) {
    spdlog::warn("http: cannot accept: {}", error.message());
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this](const error_code&) {
      if (acceptor_.is_open()) Accept();
    });
  }

  void Add(tcp::socket socket) ABSL_LOCKS_EXCLUDED(mu_) {
    const int count = static_cast<int>(connections_.size());
    if (count >= options_.max_connections + kMaxHealthConnections) return;  // closes it
    std::shared_ptr<TlsContext> tls;
    if (tls_.has_value()) {
      auto current = tls_->Get();
      if (!current.ok()) {
        spdlog::error("http: {}", std::string(current.status().message()));
        return;
      }
      tls = *std::move(current);
    }
    const auto connection = HttpConnection::Make(&server_, std::move(socket), std::move(tls),
                                                 /*health_only=*/count >= options_.max_connections);
    connections_.emplace(connection.get(), connection);
    Count();
  }

  void Remove(HttpConnection* connection) {
    connections_.erase(connection);
    Count();
  }

  void Count() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    num_connections_ = static_cast<int>(connections_.size());
  }

  // `visit` may remove connections.
  void ForEach(const std::function<void(HttpConnection&)>& visit) {
    std::vector<std::shared_ptr<HttpConnection>> all;
    for (const auto& [pointer, connection] : connections_) all.push_back(connection);
    for (const auto& connection : all) visit(*connection);
  }

  // False when there still are some after `timeout`.
  bool AwaitNoConnections(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_) {
    const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return num_connections_ == 0; };
    // What was posted before has been done by then.
    absl::Notification seen;
    boost::asio::post(io_, [&seen] { seen.Notify(); });
    seen.WaitForNotification();
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&none), timeout);
  }

  bool IsHealthy() const {
    return serving_ && absl::Now() - options_.last_progress() <= options_.max_stall;
  }

  const Options options_;
  Router router_;
  HttpConnection::Server server_;
  std::optional<CurrentTlsContext> tls_;
  std::atomic<bool> serving_{true};
  int port_ = 0;

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer pause_;  // before the next try to accept
  std::map<HttpConnection*, std::shared_ptr<HttpConnection>> connections_;
  boost::asio::thread_pool workers_{kNumWorkers};
  std::thread io_thread_;

  mutable absl::Mutex mu_;
  int num_connections_ ABSL_GUARDED_BY(mu_) = 0;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Options& options,
                                                              const CallContext& context) {
  auto core = std::make_unique<Core>(options, context);
  RETURN_IF_ERROR(core->Start());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

HttpServer::HttpServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
HttpServer::~HttpServer() = default;
int HttpServer::port() const { return core_->port(); }
int HttpServer::num_connections() const { return core_->num_connections(); }
void HttpServer::StopServing() { core_->StopServing(); }
void HttpServer::StopAccepting() { core_->StopAccepting(); }
void HttpServer::Shutdown(absl::Duration timeout) { core_->Shutdown(timeout); }

}  // namespace adamoe
