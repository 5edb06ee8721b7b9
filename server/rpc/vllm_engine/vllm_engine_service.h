// The service vllm.grpc.engine.VllmEngine, which gateways speak to engines. Thread-safe.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_VLLM_ENGINE_SERVICE_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_VLLM_ENGINE_SERVICE_H_

#include <functional>
#include <memory>

#include "server/serving/call_context.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace adamoe {

// HealthCheck is open to everybody and says what `is_serving` does; the rest is for those with a
// token where tokens are wanted, and Abort ends only requests of the same token. `context` is
// copied; what it points at must outlive the service.
std::unique_ptr<grpc::Service> MakeVllmEngineService(const CallContext& context,
                                                     std::function<bool()> is_serving);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_VLLM_ENGINE_SERVICE_H_
