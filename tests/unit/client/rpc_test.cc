#include "client/rpc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace adamoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

grpc::Status WithDetail(grpc::StatusCode code, const std::string& message,
                        const google::protobuf::Message& detail) {
  google::rpc::Status status;
  status.add_details()->PackFrom(detail);
  return grpc::Status(code, message, status.SerializeAsString());
}

TEST(FromGrpcTest, OkStaysOk) { EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok()); }

TEST(FromGrpcTest, NamesTheFieldsOfABadRequest) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("sampling.top_p");
  violation->set_description("2 is not in (0, 1]");
  const absl::Status status = FromGrpc(WithDetail(grpc::INVALID_ARGUMENT, "bad request", bad));
  EXPECT_EQ(StatusLine(status),
            "INVALID_ARGUMENT: bad request (field sampling.top_p: 2 is not in (0, 1])");
}

TEST(FromGrpcTest, DoesNotSayADescriptionTwice) {
  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("prompt");
  violation->set_description("must not be empty");
  EXPECT_EQ(FromGrpc(WithDetail(grpc::INVALID_ARGUMENT, "prompt must not be empty", bad)).message(),
            "prompt must not be empty (field prompt)");
}

TEST(FromGrpcTest, SaysWhenToRetry) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500000000);
  EXPECT_EQ(FromGrpc(WithDetail(grpc::RESOURCE_EXHAUSTED, "queue full", retry)).message(),
            "queue full (retry after 1.5s)");
}

TEST(FromGrpcTest, IsOneLineWhateverTheServerSends) {
  const grpc::Status status(grpc::INTERNAL, "two\nlines\r\n",
                            "these bytes are no google.rpc.Status \xff\xff");
  EXPECT_EQ(FromGrpc(status).code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(FromGrpc(status).message()),
              AllOf(HasSubstr("two lines"), Not(HasSubstr("\n"))));
}

}  // namespace
}  // namespace adamoe
