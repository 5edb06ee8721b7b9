// Unary methods that are answered at once, from raw bytes and behind the same tokens as every call.
#ifndef ADAMOE_SERVER_RPC_UNARY_ANSWER_H_
#define ADAMOE_SERVER_RPC_UNARY_ANSWER_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "server/rpc/grpc_codec.h"
#include "server/security/authenticator.h"

namespace adamoe {

// Answers a call with what `method` of `service` makes of its request. UNAUTHENTICATED for a call
// without a valid token; `authenticator` null: everybody may call.
template <typename Service, typename Request, typename Response>
grpc::ServerUnaryReactor* AnswerAtOnce(
    const Service& service, absl::Status (Service::*method)(const Request&, Response*) const,
    const Authenticator* authenticator, grpc::CallbackServerContext* server_context,
    const grpc::ByteBuffer& request, grpc::ByteBuffer* response) {
  Request request_proto;
  Response response_proto;
  absl::Status status =
      Authenticate(authenticator, OriginOf(*server_context).authorization).status();
  if (status.ok()) status = ParseRequest(request, &request_proto);
  if (status.ok()) status = (service.*method)(request_proto, &response_proto);
  if (status.ok()) *response = ToByteBuffer(response_proto);
  grpc::ServerUnaryReactor* reactor = server_context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_UNARY_ANSWER_H_
