#include "server/http/api_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http/json_document.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

Json Inner(const ApiError& error) { return Json::parse(error.json)["error"]; }

std::string HeaderOf(const ApiError& error, const std::string& name) {
  for (const Header& header : error.headers) {
    if (header.name == name) return header.value;
  }
  return "";
}

TEST(ApiErrorTest, EveryStatusHasItsNumber) {
  const struct {
    absl::StatusCode code;
    int status;
    const char* type;
  } cases[] = {
      {absl::StatusCode::kInvalidArgument, 400, "invalid_request_error"},
      {absl::StatusCode::kUnauthenticated, 401, "authentication_error"},
      {absl::StatusCode::kNotFound, 404, "not_found_error"},
      {absl::StatusCode::kResourceExhausted, 429, "rate_limit_error"},
      {absl::StatusCode::kInternal, 500, "server_error"},
      {absl::StatusCode::kUnknown, 500, "server_error"},
      {absl::StatusCode::kUnimplemented, 501, "server_error"},
      {absl::StatusCode::kUnavailable, 503, "service_unavailable_error"},
      {absl::StatusCode::kDeadlineExceeded, 504, "timeout_error"},
  };
  for (const auto& [code, status, type] : cases) {
    const ApiError error = ToApiError(absl::Status(code, "why"));
    EXPECT_EQ(error.status, status);
    EXPECT_EQ(Inner(error)["message"], "why");
    EXPECT_EQ(Inner(error)["type"], type);
    EXPECT_TRUE(Inner(error)["param"].is_null());
    EXPECT_EQ(HeaderOf(error, "WWW-Authenticate"), status == 401 ? "Bearer" : "");
    EXPECT_EQ(HeaderOf(error, "Retry-After"), status == 429 || status == 503 ? "1" : "");
  }
}

TEST(ApiErrorTest, NamesTheField) {
  const ApiError error = ToApiError(FieldError("top_p", "2 is not in (0, 1]"));
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(Inner(error)["param"], "top_p");
  EXPECT_EQ(Inner(error)["message"], "top_p: 2 is not in (0, 1]");
  EXPECT_TRUE(Inner(error)["code"].is_null());
}

TEST(ApiErrorTest, AnotherModelIsNotFound) {
  const ApiError error = ToApiError(FieldError("model", "there is no such"));
  EXPECT_EQ(error.status, 404);
  EXPECT_EQ(Inner(error)["code"], "model_not_found");
}

TEST(ApiErrorTest, RetryAfterIsRoundedUp) {
  const absl::Status full = absl::ResourceExhaustedError("full");
  EXPECT_EQ(HeaderOf(ToApiError(WithRetryAfter(full, absl::Milliseconds(2500))), "Retry-After"),
            "3");
  EXPECT_EQ(HeaderOf(ToApiError(WithRetryAfter(full, absl::Milliseconds(1))), "Retry-After"), "1");
  EXPECT_EQ(HeaderOf(ToApiError(WithRetryAfter(full, absl::Seconds(7))), "Retry-After"), "7");
}

}  // namespace
}  // namespace adamoe
