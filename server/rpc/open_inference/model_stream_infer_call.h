// One ModelStreamInfer: any number of requests, whose responses are written as they are made, one
// at a time and in turn. Requests beyond kMaxInFlight wait unread, in the client. The call owns
// itself.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_MODEL_STREAM_INFER_CALL_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_MODEL_STREAM_INFER_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/serving/call_context.h"

namespace adamoe {

// A request that fails is answered with an error, and the stream goes on; with the metadata
// triton_grpc_error = true it ends with that error as its status. `context` is copied.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartModelStreamInfer(
    const CallContext& context, grpc::CallbackServerContext* server_context);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_MODEL_STREAM_INFER_CALL_H_
