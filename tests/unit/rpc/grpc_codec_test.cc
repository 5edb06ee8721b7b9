#include "server/rpc/grpc_codec.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <gtest/gtest.h>

#include <string>

#include "server/serving/call_record.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

TEST(GrpcCodecTest, CodesAndMessagesStay) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status = ToGrpcStatus(absl::Status(absl::StatusCode(code), "why"));
    EXPECT_EQ(status.error_code(), code);
    EXPECT_EQ(status.error_message(), "why");
    EXPECT_EQ(status.error_details(), "");
  }
}

TEST(GrpcCodecTest, AFieldErrorHasABadRequestDetail) {
  const grpc::Status status = ToGrpcStatus(FieldError("sampling.top_p", "2 is not in (0, 1]"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "sampling.top_p: 2 is not in (0, 1]");
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), 3);
  EXPECT_EQ(details.message(), status.error_message());
  google::rpc::BadRequest bad_request;
  ASSERT_EQ(details.details_size(), 1);
  ASSERT_TRUE(details.details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "sampling.top_p");
  EXPECT_EQ(bad_request.field_violations(0).description(), "2 is not in (0, 1]");
}

TEST(GrpcCodecTest, ARefusalSaysWhenToRetry) {
  const grpc::Status status =
      ToGrpcStatus(WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(1250)));
  google::rpc::Status details;
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 1);
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 250000000);
}

TEST(GrpcCodecTest, OtherErrorsBecomeFieldErrorsOnlyWhereTheFieldIsAtFault) {
  EXPECT_EQ(FieldError("text", absl::OutOfRangeError("id 7")).message(), "text: id 7");
  EXPECT_TRUE(absl::IsInvalidArgument(FieldError("text", absl::OutOfRangeError("id 7"))));
  EXPECT_EQ(FieldError("text", absl::InternalError("bug")), absl::InternalError("bug"));
}

TEST(GrpcCodecTest, MessagesAreUtf8OnTheWire) {
  EXPECT_EQ(ToGrpcStatus(absl::InternalError("a\xff")).error_message(), "a\xef\xbf\xbd");
}

TEST(GrpcCodecTest, OutcomesFollowTheCode) {
  EXPECT_EQ(OutcomeOf(absl::OkStatus()), RequestOutcome::kOk);
  EXPECT_EQ(OutcomeOf(absl::CancelledError("")), RequestOutcome::kCancelled);
  EXPECT_EQ(OutcomeOf(absl::DeadlineExceededError("")), RequestOutcome::kDeadline);
  EXPECT_EQ(OutcomeOf(absl::ResourceExhaustedError("")), RequestOutcome::kRejected);
  EXPECT_EQ(OutcomeOf(absl::UnavailableError("")), RequestOutcome::kRejected);
  EXPECT_EQ(OutcomeOf(absl::InvalidArgumentError("")), RequestOutcome::kInvalid);
  EXPECT_EQ(OutcomeOf(absl::UnauthenticatedError("")), RequestOutcome::kInvalid);
  EXPECT_EQ(OutcomeOf(absl::InternalError("")), RequestOutcome::kError);
}

}  // namespace
}  // namespace adamoe
