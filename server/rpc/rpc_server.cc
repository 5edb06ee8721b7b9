#include "server/rpc/rpc_server.h"

#include <adamoe/v1/inference.grpc.pb.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>

#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/rpc/inference_service.h"
#include "server/rpc/wire_parser.h"

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

}  // namespace

class RpcServer::Core {
 public:
  Core(const Options& options, const CallContext& context)
      : options_(options), service_(MakeInferenceService(context)) {}

  ~Core() {
    Shutdown(absl::ZeroDuration());
    StopServing();
    if (health_watch_.joinable()) health_watch_.join();
  }

  absl::Status Start() {
    gpr_set_log_function(&LogGrpc);
    QuietProtobufLog();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
    SetChannelArguments(builder);
    builder.AddListeningPort(options_.address, grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.address,
                                                 ": no such address, or it is in use"));
    }
    SetHealth(true);
    health_watch_ = std::thread([this] { WatchHealth(); });
    return absl::OkStatus();
  }

  int port() const { return port_; }

  void StopServing() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    SetHealth(false);
  }

  void Shutdown(absl::Duration timeout) {
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now() + timeout));
  }

 private:
  void SetHealth(bool serving) {
    if (server_ == nullptr) return;
    auto* health = server_->GetHealthCheckService();
    health->SetServingStatus("", serving);
    health->SetServingStatus(v1::Inference::service_full_name(), serving);
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
  const std::unique_ptr<grpc::Service> service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::thread health_watch_;

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
void RpcServer::StopServing() { core_->StopServing(); }
void RpcServer::Shutdown(absl::Duration timeout) { core_->Shutdown(timeout); }

}  // namespace adamoe
