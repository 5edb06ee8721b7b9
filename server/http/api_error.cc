#include "server/http/api_error.h"

#include <google/rpc/error_details.pb.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/http/json_document.h"
#include "server/log/json_text.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

constexpr int kRetryAfterSeconds = 1;

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

// Whole seconds, at least one: Retry-After knows no others.
int RetrySeconds(const absl::Status& status) {
  google::rpc::RetryInfo retry;
  if (!ReadDetail(status, &retry)) return kRetryAfterSeconds;
  const auto& delay = retry.retry_delay();
  return static_cast<int>(
      std::clamp<int64_t>(delay.seconds() + (delay.nanos() > 0 ? 1 : 0), 1, 3600));
}

ApiError Make(int status, const std::string& message, const Json& param, const Json& code) {
  ApiError error;
  error.status = status;
  error.json = JsonText(
      {{"error",
        {{"message", message}, {"type", TypeOf(status)}, {"param", param}, {"code", code}}}});
  if (status == 401) error.headers.push_back({"WWW-Authenticate", "Bearer"});
  return error;
}

}  // namespace

Reply ApiError::ToReply() const {
  Reply reply;
  reply.status = status;
  reply.headers = headers;
  reply.body = json;
  return reply;
}

ApiError ToApiError(const absl::Status& status) {
  int number = HttpStatusOf(status.code());
  Json param = nullptr;
  Json code = nullptr;
  google::rpc::BadRequest bad;
  if (ReadDetail(status, &bad) && !bad.field_violations().empty()) {
    param = bad.field_violations(0).field();
    if (param == "model") {
      number = 404;
      code = "model_not_found";
    }
  }
  if (number == 401) code = "invalid_api_key";
  if (number == 429) code = "rate_limit_exceeded";
  ApiError error = Make(number, std::string(status.message()), param, code);
  if (number == 429 || number == 503) {
    error.headers.push_back({"Retry-After", absl::StrCat(RetrySeconds(status))});
  }
  return error;
}

ApiError HttpError(int status, absl::string_view message) {
  return Make(status, std::string(message), nullptr, nullptr);
}

}  // namespace adamoe
