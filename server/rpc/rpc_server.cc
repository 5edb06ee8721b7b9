#include "server/rpc/rpc_server.h"

#include <adamoe/v1/inference.grpc.pb.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <open_inference/grpc_service.grpc.pb.h>
#include <smg/vllm_engine.grpc.pb.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/rpc/inference_service.h"
#include "server/rpc/open_inference/open_inference_service.h"
#include "server/rpc/reflection.h"
#include "server/rpc/tls_credentials.h"
#include "server/rpc/vllm_engine/vllm_engine_service.h"
#include "server/serving/wire_parser.h"

namespace adamoe {
namespace {

constexpr int kMaxRequestBytes = 16 << 20;

// Our own messages say what went wrong; gRPC's are for those who look for more.
void LogGrpc(gpr_log_func_args* args) {
  spdlog::debug("gRPC {}:{}: {}", args->file, args->line, args->message);
}

void SetChannelArguments(grpc::ServerBuilder& builder) {
  // Two servers on one port would share its connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Gateways ping idle connections every half minute; by default that ends them.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A client that vanished without a word is noticed within a minute, and its requests are
  // cancelled.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 40000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
}

// A server on `address`, with what `add` gives it.
template <typename Add>
absl::StatusOr<std::unique_ptr<grpc::Server>> Listen(
    const std::string& address, const std::shared_ptr<grpc::ServerCredentials>& credentials,
    int* port, Add add) {
  grpc::ServerBuilder builder;
  SetChannelArguments(builder);
  builder.AddListeningPort(address, credentials, port);
  add(builder);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server != nullptr && *port != 0) return server;
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, ": no such address, or it is in use"));
}

}  // namespace

class RpcServer::Core {
 public:
  Core(const Options& options, const CallContext& context)
      : options_(options),
        authenticator_(context.authenticator),
        inference_(MakeInferenceService(context)),
        open_inference_(MakeOpenInferenceService(context, [this] { return serving_.load(); })),
        vllm_engine_(MakeVllmEngineService(context, [this] { return serving_.load(); })),
        credentials_(options.tls == nullptr ? grpc::InsecureServerCredentials()
                                            : TlsServerCredentials(options.tls)) {}

  ~Core() {
    Shutdown(absl::ZeroDuration());
    StopServing();
    if (health_watch_.joinable()) health_watch_.join();
  }

  absl::Status Start() {
    gpr_set_log_function(&LogGrpc);
    QuietProtobufLog();
    grpc::EnableDefaultHealthCheckService(true);
    ASSIGN_OR_RETURN(server_, Listen(options_.address, credentials_, &port_, [this](auto& builder) {
                       builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
                       AddReflection(authenticator_, builder);
                       builder.RegisterService(inference_.get());
                       builder.RegisterService(open_inference_.get());
                       builder.RegisterService(vllm_engine_.get());
                     }));
    if (!options_.health_address.empty()) {
      ASSIGN_OR_RETURN(health_server_,
                       Listen(options_.health_address, grpc::InsecureServerCredentials(),
                              &health_port_, [this](auto& builder) {
                                LeaveOutReflection(builder);
                                builder.RegisterCallbackGenericService(&nothing_);
                              }));
    }
    SetHealth(true);
    health_watch_ = std::thread([this] { WatchHealth(); });
    return absl::OkStatus();
  }

  int port() const { return port_; }
  int health_port() const { return health_port_; }

  void StopServing() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    SetHealth(false);
  }

  void StopAccepting() {
    if (server_ == nullptr || shutdown_.joinable() || calls_ended_.HasBeenNotified()) return;
    // Without a deadline: Shutdown below cancels what outlasts its own.
    shutdown_ = std::thread([this] {
      server_->Shutdown();
      calls_ended_.Notify();
    });
  }

  void Shutdown(absl::Duration timeout) {
    StopAccepting();
    if (!shutdown_.joinable()) return;
    // More than once: a call may come in until gRPC's own shutdown has begun.
    while (!calls_ended_.WaitForNotificationWithTimeout(timeout)) {
      grpc_server_cancel_all_calls(server_->c_server());
      timeout = absl::Milliseconds(100);
    }
    shutdown_.join();
    if (health_server_ != nullptr) health_server_->Shutdown(std::chrono::system_clock::now());
  }

 private:
  void SetHealth(bool serving) {
    serving_ = serving;
    for (grpc::Server* server : {server_.get(), health_server_.get()}) {
      if (server == nullptr) continue;
      auto* health = server->GetHealthCheckService();
      health->SetServingStatus("", serving);
      health->SetServingStatus(v1::Inference::service_full_name(), serving);
      health->SetServingStatus(inference::GRPCInferenceService::service_full_name(), serving);
      health->SetServingStatus(vllm::grpc::engine::VllmEngine::service_full_name(), serving);
    }
  }

  void WatchHealth() ABSL_LOCKS_EXCLUDED(mu_) {
    bool serving = true;
    absl::MutexLock lock(&mu_);
    while (!mu_.AwaitWithTimeout(absl::Condition(&stopping_), options_.health_period)) {
      const absl::Duration stalled = absl::Now() - options_.last_progress();
      if (serving == (stalled <= options_.max_stall)) continue;
      serving = !serving;
      spdlog::warn("health: {}, {}", serving ? "SERVING" : "NOT_SERVING",
                   stalled == absl::InfiniteDuration()
                       ? "the model's device is lost"
                       : absl::StrCat("the executor's last step was ",
                                      absl::FormatDuration(stalled), " ago"));
      SetHealth(serving);
    }
  }

  const Options options_;
  const Authenticator* const authenticator_;
  // What the servers use comes before them.
  std::atomic<bool> serving_{false};
  const std::unique_ptr<grpc::Service> inference_;
  const std::unique_ptr<grpc::Service> open_inference_;
  const std::unique_ptr<grpc::Service> vllm_engine_;
  const std::shared_ptr<grpc::ServerCredentials> credentials_;
  grpc::CallbackGenericService nothing_;  // UNIMPLEMENTED; gRPC wants some service in a server
  int port_ = 0;
  int health_port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> health_server_;
  std::thread health_watch_;
  std::thread shutdown_;
  absl::Notification calls_ended_;

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const Options& options,
                                                            const CallContext& context) {
  auto core = std::make_unique<Core>(options, context);
  absl::Status status = core->Start();
  if (!status.ok()) return status;
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(core)));
}

RpcServer::RpcServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
RpcServer::~RpcServer() = default;
int RpcServer::port() const { return core_->port(); }
int RpcServer::health_port() const { return core_->health_port(); }
void RpcServer::StopServing() { core_->StopServing(); }
void RpcServer::StopAccepting() { core_->StopAccepting(); }
void RpcServer::Shutdown(absl::Duration timeout) { core_->Shutdown(timeout); }

}  // namespace adamoe
