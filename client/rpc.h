// What the command line client and the load generator share of gRPC: a channel, and statuses a
// person can read.
#ifndef ADAMOE_CLIENT_RPC_H_
#define ADAMOE_CLIENT_RPC_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace adamoe {

// A plaintext channel without a limit on the size of answers. Connects at the first call.
std::shared_ptr<grpc::Channel> Connect(const std::string& target);

// The same over `credentials`. Every call carries "authorization: Bearer `token`", unless it is
// empty: over plaintext too, which gRPC's own call credentials refuse.
std::shared_ptr<grpc::Channel> Connect(const std::string& target,
                                       const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                       std::string token);

// Ends the call `timeout` from now; absl::InfiniteDuration(): never.
void SetTimeout(absl::Duration timeout, grpc::ClientContext* context);

// The same code; the message on one line, followed by the fields a google.rpc.BadRequest names and
// the delay a google.rpc.RetryInfo asks for.
absl::Status FromGrpc(const grpc::Status& status);

// "CODE: message".
std::string StatusLine(const absl::Status& status);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_RPC_H_
