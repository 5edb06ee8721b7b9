// The service adamoe.v1.Inference: each method reads its bytes, checks them and starts its call.
// Thread-safe.
#ifndef ADAMOE_SERVER_RPC_INFERENCE_SERVICE_H_
#define ADAMOE_SERVER_RPC_INFERENCE_SERVICE_H_

#include <memory>

#include "server/serving/call_context.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace adamoe {

// `context` is copied; what it points at must outlive the service.
std::unique_ptr<grpc::Service> MakeInferenceService(const CallContext& context);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_INFERENCE_SERVICE_H_
