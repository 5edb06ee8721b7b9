// The service inference.GRPCInferenceService: the Open Inference Protocol v2 with Triton's stream.
// Thread-safe.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_OPEN_INFERENCE_SERVICE_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_OPEN_INFERENCE_SERVICE_H_

#include <functional>
#include <memory>

#include "server/serving/call_context.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace adamoe {

// ServerLive and ServerReady are open to everybody, the latter says what `is_serving` does; the
// rest is for those with a token where tokens are wanted. `context` is copied; what it points at
// must outlive the service.
std::unique_ptr<grpc::Service> MakeOpenInferenceService(const CallContext& context,
                                                        std::function<bool()> is_serving);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_OPEN_INFERENCE_SERVICE_H_
