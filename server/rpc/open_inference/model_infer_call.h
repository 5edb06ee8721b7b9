// One ModelInfer: a request whose answer is gathered and sent at once. The call owns itself.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_MODEL_INFER_CALL_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_MODEL_INFER_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/serving/call_context.h"

namespace adamoe {

// Starts the call of `request`, the bytes of a ModelInferRequest, which are read before it returns;
// *response is filled before the call ends. `context` is copied.
grpc::ServerUnaryReactor* StartModelInfer(const CallContext& context,
                                          grpc::CallbackServerContext* server_context,
                                          const grpc::ByteBuffer& request,
                                          grpc::ByteBuffer* response);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_MODEL_INFER_CALL_H_
