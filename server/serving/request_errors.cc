#include "server/serving/request_errors.h"

#include <google/rpc/error_details.pb.h>

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

// A payload's key, as google.protobuf.Any wants it.
std::string UrlOf(const google::protobuf::Message& detail) {
  return absl::StrCat("type.googleapis.com/", detail.GetTypeName());
}

void Attach(const google::protobuf::Message& detail, absl::Status& status) {
  status.SetPayload(UrlOf(detail), absl::Cord(detail.SerializeAsString()));
}

}  // namespace

absl::Status FieldError(absl::string_view field, absl::string_view problem) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", problem));
  google::rpc::BadRequest detail;
  auto* violation = detail.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(problem));
  Attach(detail, status);
  return status;
}

absl::Status FieldError(absl::string_view field, const absl::Status& status) {
  if (!absl::IsInvalidArgument(status) && !absl::IsOutOfRange(status)) return status;
  return FieldError(field, status.message());
}

bool ReadDetail(const absl::Status& status, google::protobuf::Message* detail) {
  const auto payload = status.GetPayload(UrlOf(*detail));
  return payload.has_value() && detail->ParseFromString(std::string(*payload));
}

absl::Status WithFieldRenamed(const absl::Status& status,
                              absl::FunctionRef<std::string(absl::string_view field)> rename) {
  google::rpc::BadRequest detail;
  if (!ReadDetail(status, &detail) || detail.field_violations().empty()) return status;
  const auto& violation = detail.field_violations(0);
  return FieldError(rename(violation.field()), violation.description());
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  google::rpc::RetryInfo detail;
  detail.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(delay));
  detail.mutable_retry_delay()->set_nanos(static_cast<int32_t>(
      (delay - absl::Seconds(absl::ToInt64Seconds(delay))) / absl::Nanoseconds(1)));
  Attach(detail, status);
  return status;
}

}  // namespace adamoe
