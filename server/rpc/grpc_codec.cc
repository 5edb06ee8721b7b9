#include "server/rpc/grpc_codec.h"

#include <google/protobuf/message.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/slice.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "server/serving/utf8.h"
#include "server/serving/wire_parser.h"

namespace adamoe {

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

CallOrigin OriginOf(const grpc::CallbackServerContext& context) {
  const auto values = [&context](const char* key) {
    std::vector<std::string> found;
    const auto [begin, end] = context.client_metadata().equal_range(key);
    for (auto entry = begin; entry != end; ++entry) {
      found.emplace_back(entry->second.data(), entry->second.size());
    }
    return found;
  };
  CallOrigin origin{context.peer(), values("authorization"), std::nullopt};
  const std::vector<std::string> traces = values("traceparent");
  if (traces.size() == 1) origin.trace = ParseTraceparent(traces.front());
  return origin;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // The codes of both are those of google.rpc.Code.
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  google::rpc::Status details;
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    auto* detail = details.add_details();
    detail->set_type_url(std::string(type_url));
    detail->set_value(std::string(payload));
  });
  const std::string message = MendUtf8(status.message());
  if (details.details().empty()) return grpc::Status(code, message);
  details.set_code(code);
  details.set_message(message);
  return grpc::Status(code, message, details.SerializeAsString());
}

absl::Status ParseRequest(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  grpc::Slice slice;
  if (!bytes.Valid() || !bytes.DumpToSingleSlice(&slice).ok()) {
    return absl::InvalidArgumentError("the request cannot be read (an unknown compression?)");
  }
  return ParseWire({reinterpret_cast<const char*>(slice.begin()), slice.size()}, message);
}

grpc::ByteBuffer ToByteBuffer(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace adamoe
