// gRPC's reflection service is its own and asks nobody; an interceptor ends the calls of those who
// may not know before it sees them.
#include "server/rpc/reflection.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"

namespace adamoe {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

// Whether one builder has the plugin, which gRPC gives to every server of a process that links it.
class ReflectionOption final : public grpc::ServerBuilderOption {
 public:
  explicit ReflectionOption(bool wanted) : wanted_(wanted) {}

  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->clear();
    if (!wanted_) return;
    plugins->push_back(std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>());
  }

 private:
  const bool wanted_;
};

class Doorkeeper final : public Interceptor {
 public:
  Doorkeeper(const Authenticator* authenticator, ServerRpcInfo* info)
      : authenticator_(authenticator), info_(info) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      const auto status = authenticator_->Authenticate(AuthorizationOf(*methods)).status();
      if (!status.ok()) {
        grpc_call_cancel_with_status(info_->server_context()->c_call(), GRPC_STATUS_UNAUTHENTICATED,
                                     std::string(status.message()).c_str(), nullptr);
      }
    }
    methods->Proceed();
  }

 private:
  static std::vector<std::string> AuthorizationOf(InterceptorBatchMethods& methods) {
    std::vector<std::string> values;
    const auto* metadata = methods.GetRecvInitialMetadata();
    const auto [begin, end] = metadata->equal_range("authorization");
    for (auto entry = begin; entry != end; ++entry) {
      values.emplace_back(entry->second.data(), entry->second.size());
    }
    return values;
  }

  const Authenticator* const authenticator_;
  ServerRpcInfo* const info_;
};

class DoorkeeperFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit DoorkeeperFactory(const Authenticator* authenticator) : authenticator_(authenticator) {}

  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    if (!absl::StartsWith(info->method(), "/grpc.reflection.")) return nullptr;
    return new Doorkeeper(authenticator_, info);  // gRPC's to delete
  }

 private:
  const Authenticator* const authenticator_;
};

}  // namespace

void AddReflection(const Authenticator* authenticator, grpc::ServerBuilder& builder) {
  builder.SetOption(std::make_unique<ReflectionOption>(true));
  if (authenticator == nullptr) return;
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<DoorkeeperFactory>(authenticator));
  builder.experimental().SetInterceptorCreators(std::move(factories));
}

void LeaveOutReflection(grpc::ServerBuilder& builder) {
  builder.SetOption(std::make_unique<ReflectionOption>(false));
}

}  // namespace adamoe
