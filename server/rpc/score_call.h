// One Score: every continuation is a request of its own, of context + continuation, for which
// nothing is generated. The last token of a continuation is scored but not run: nothing follows it.
//
// The first continuation runs alone where the others will then find their context in the prefix
// cache; after it a window of them is with the executor at a time, so that one Score neither fills
// the queue nor runs one by one. The call owns itself.
#ifndef ADAMOE_SERVER_RPC_SCORE_CALL_H_
#define ADAMOE_SERVER_RPC_SCORE_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/serving/call_context.h"

namespace adamoe {

// Starts the call of `request`, the bytes of a ScoreRequest, which are read before it returns;
// *response is filled before the call ends. `context` is copied.
grpc::ServerUnaryReactor* StartScore(const CallContext& context,
                                     grpc::CallbackServerContext* server_context,
                                     const grpc::ByteBuffer& request, grpc::ByteBuffer* response);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_SCORE_CALL_H_
