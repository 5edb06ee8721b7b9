// Between the server's vocabulary and gRPC's: statuses, and messages as raw bytes. Pure functions.
//
// The service takes raw bytes because the generated one answers UNIMPLEMENTED to those it cannot
// parse.
#ifndef ADAMOE_SERVER_RPC_GRPC_CODEC_H_
#define ADAMOE_SERVER_RPC_GRPC_CODEC_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/serving/call_origin.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace grpc {
class CallbackServerContext;
}  // namespace grpc

namespace adamoe {

// When the client stops waiting; infinite when it did not say.
absl::Time DeadlineOf(const grpc::CallbackServerContext& context);

// The call's metadata. More than one traceparent is as good as none.
CallOrigin OriginOf(const grpc::CallbackServerContext& context);

// The same code and message; payloads become the details of a google.rpc.Status
// (grpc-status-details-bin).
grpc::Status ToGrpcStatus(const absl::Status& status);

// Errors as ParseWire's.
absl::Status ParseRequest(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);

grpc::ByteBuffer ToByteBuffer(const google::protobuf::Message& message);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_GRPC_CODEC_H_
