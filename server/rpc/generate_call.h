// One Generate: a reactor that writes a request's tokens to its stream as they are made.
//
// The executor thread delivers tokens and never waits: while a write is under way they collect in
// GenerationOutput. The call owns itself; it ends when both the executor and gRPC are done with it.
#ifndef ADAMOE_SERVER_RPC_GENERATE_CALL_H_
#define ADAMOE_SERVER_RPC_GENERATE_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/serving/call_context.h"

namespace adamoe {

// Starts the call of `request`, the bytes of a GenerateRequest, which are read before it returns.
// `context` is copied.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(
    const CallContext& context, grpc::CallbackServerContext* server_context,
    const grpc::ByteBuffer& request);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_GENERATE_CALL_H_
