#include "server/serving/wire_parser.h"

#include <adamoe/v1/inference.pb.h>
#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

#include <string>

namespace adamoe {
namespace {

using testing::HasSubstr;

// Bytes of a message whose string `from` is replaced by `to`, of the same size.
std::string Spoil(const google::protobuf::Message& message, const std::string& from,
                  const std::string& to) {
  std::string bytes = message.SerializeAsString();
  const size_t at = bytes.find(from);
  EXPECT_NE(at, std::string::npos);
  EXPECT_EQ(from.size(), to.size());
  return bytes.replace(at, from.size(), to);
}

TEST(WireParserTest, ReadsWhatIsWellFormed) {
  v1::GenerateRequest request;
  request.set_prompt("h\xc3\xa9llo");
  request.mutable_sampling()->add_stop("x");
  v1::GenerateRequest parsed;
  ASSERT_TRUE(ParseWire(request.SerializeAsString(), &parsed).ok());
  EXPECT_EQ(parsed.prompt(), request.prompt());
  EXPECT_TRUE(ParseWire("", &parsed).ok());
}

TEST(WireParserTest, NamesTheStringThatIsNotUtf8) {
  QuietProtobufLog();
  v1::GenerateRequest request;
  request.mutable_sampling()->add_stop("good");
  request.mutable_sampling()->add_stop("four");
  for (const char* content : {"first", "marks"}) {
    auto* message = request.mutable_messages()->add_messages();
    message->set_role("user");
    message->set_content(content);
  }
  v1::GenerateRequest parsed;
  EXPECT_THAT(ParseWire(Spoil(request, "four", "f\xffur"), &parsed).ToString(),
              HasSubstr("sampling.stop[1]: is not UTF-8 at byte 1 of 4"));
  const absl::Status status = ParseWire(Spoil(request, "marks", "mark\x80"), &parsed);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.ToString(), HasSubstr("messages.messages[1].content: is not UTF-8"));
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  google::rpc::BadRequest detail;
  ASSERT_TRUE(detail.ParseFromString(std::string(*payload)));
  EXPECT_EQ(detail.field_violations(0).field(), "messages.messages[1].content");
}

TEST(WireParserTest, SaysWhenBytesAreNoMessage) {
  QuietProtobufLog();
  v1::ScoreRequest parsed;
  for (const std::string& bytes :
       {std::string("\xff\xff\xff\xff"), std::string("\x0a\x7fshort"), std::string(41, '\x08')}) {
    const absl::Status status = ParseWire(bytes, &parsed);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(status.ToString(), HasSubstr("adamoe.v1.ScoreRequest"));
  }
}

}  // namespace
}  // namespace adamoe
