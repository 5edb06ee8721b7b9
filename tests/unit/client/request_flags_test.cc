#include "client/cli/request_flags.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <sstream>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "client/cli/commands.h"
#include "client/rpc.h"

namespace adamoe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Sets a flag for the length of a test, as the command line would.
class RequestFlagsTest : public testing::Test {
 protected:
  void Set(const std::string& name, const std::string& value) {
    std::string error;
    absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    ASSERT_NE(flag, nullptr) << name;
    ASSERT_TRUE(flag->ParseFrom(value, &error)) << error;
  }

  // Runs a command that must fail before it reaches a server.
  absl::Status Run(const std::vector<std::string>& arguments) {
    const auto stub = v1::Inference::NewStub(Connect("127.0.0.1:1"));
    std::istringstream in;
    std::ostringstream out;
    return RunCommand(arguments, {stub.get(), in, out, false, absl::Seconds(5), {}});
  }

  void ExpectInvalid(const std::vector<std::string>& arguments, const std::string& message) {
    const absl::Status status = Run(arguments);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }

  absl::FlagSaver saver_;
};

TEST_F(RequestFlagsTest, WithoutFlagsNothingIsSet) {
  const auto request = GenerateRequestFromFlags();
  ASSERT_TRUE(request.ok()) << request.status();
  v1::GenerateRequest empty;
  empty.mutable_sampling();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(*request, empty))
      << request->DebugString();
}

TEST_F(RequestFlagsTest, EveryFlagReachesItsField) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"prompt_tokens", "5,6"},
                                                        {"request_id", "me"},
                                                        {"max_tokens", "9"},
                                                        {"min_tokens", "2"},
                                                        {"temperature", "0"},
                                                        {"top_k", "40"},
                                                        {"top_p", "0.5"},
                                                        {"min_p", "0.25"},
                                                        {"repetition_penalty", "1.5"},
                                                        {"presence_penalty", "-0.5"},
                                                        {"frequency_penalty", "1"},
                                                        {"seed", "18446744073709551615"},
                                                        {"stop", "a,b"},
                                                        {"stop_token_ids", "1,2"},
                                                        {"ignore_eos", "true"},
                                                        {"logit_bias", "7:-1.5,8:2"},
                                                        {"logprobs", "0"},
                                                        {"prompt_logprobs", "true"},
                                                        {"priority", "-3"},
                                                        {"null_bias", "0.75"},
                                                        {"max_experts_per_token", "1"},
                                                        {"experts_per_layer", "true"}}) {
    Set(name, value);
  }
  const auto request = GenerateRequestFromFlags();
  ASSERT_TRUE(request.ok()) << request.status();
  const v1::Sampling& sampling = request->sampling();
  EXPECT_THAT(request->prompt_tokens().ids(), ElementsAre(5, 6));
  EXPECT_EQ(request->request_id(), "me");
  EXPECT_EQ(sampling.max_tokens(), 9u);
  EXPECT_EQ(sampling.min_tokens(), 2u);
  EXPECT_TRUE(sampling.has_temperature());
  EXPECT_EQ(sampling.temperature(), 0);
  EXPECT_EQ(sampling.top_k(), 40u);
  EXPECT_EQ(sampling.top_p(), 0.5f);
  EXPECT_EQ(sampling.min_p(), 0.25f);
  EXPECT_EQ(sampling.repetition_penalty(), 1.5f);
  EXPECT_EQ(sampling.presence_penalty(), -0.5f);
  EXPECT_EQ(sampling.frequency_penalty(), 1.0f);
  EXPECT_EQ(sampling.seed(), 18446744073709551615u);
  EXPECT_THAT(sampling.stop(), ElementsAre("a", "b"));
  EXPECT_THAT(sampling.stop_token_ids(), ElementsAre(1, 2));
  EXPECT_TRUE(sampling.ignore_eos());
  EXPECT_EQ(sampling.logit_bias().at(7), -1.5f);
  EXPECT_EQ(sampling.logit_bias().at(8), 2.0f);
  EXPECT_TRUE(request->has_logprobs());
  EXPECT_TRUE(request->prompt_logprobs());
  EXPECT_EQ(request->priority(), -3);
  EXPECT_EQ(request->compute().null_bias(), 0.75f);
  EXPECT_EQ(request->compute().max_experts_per_token(), 1u);
  EXPECT_TRUE(request->experts_per_layer());
}

TEST_F(RequestFlagsTest, BadListsNameTheFlagAndTheValue) {
  for (const auto& [flag, value, bad] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"prompt_tokens", "1,x", "'x'"},
           {"stop_token_ids", "-1", "'-1'"},
           {"logit_bias", "5", "'5'"},
           {"logit_bias", "a:1", "'a:1'"},
           {"logit_bias", "1:b", "'1:b'"}}) {
    absl::FlagSaver saver;
    Set(flag, value);
    const auto request = GenerateRequestFromFlags();
    EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument) << flag << "=" << value;
    EXPECT_THAT(std::string(request.status().message()),
                AllOf(HasSubstr("--" + flag), HasSubstr(bad)));
  }
}

TEST_F(RequestFlagsTest, TheFormOfTheOutput) {
  const struct {
    const char* flag;
    const char* value;
    const char* expected;
  } cases[] = {
      {"json_schema", " {\"type\":\"null\"}", "json_schema: \" {\\\"type\\\":\\\"null\\\"}\""},
      {"json_object", "true", "json_object: true"},
      {"regex", "a+", "regex: \"a+\""},
      {"choice", "one,two\\, three", "choice { choices: \"one\" choices: \"two, three\" }"},
  };
  for (const auto& [flag, value, expected] : cases) {
    absl::FlagSaver saver;
    Set(flag, value);
    const auto request = GenerateRequestFromFlags();
    ASSERT_TRUE(request.ok()) << request.status();
    v1::StructuredOutput structured;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(expected, &structured)) << expected;
    EXPECT_TRUE(
        google::protobuf::util::MessageDifferencer::Equals(request->structured(), structured))
        << request->DebugString();
  }
  Set("grammar", "/no/such/file");
  EXPECT_THAT(std::string(GenerateRequestFromFlags().status().message()),
              AllOf(HasSubstr("--grammar"), HasSubstr("/no/such/file")));
  Set("grammar", "");
  Set("json_schema", "/no/such/file");
  EXPECT_THAT(std::string(GenerateRequestFromFlags().status().message()),
              AllOf(HasSubstr("--json_schema"), HasSubstr("/no/such/file")));
  Set("json_schema", "{}");
  Set("regex", "a");
  EXPECT_THAT(std::string(GenerateRequestFromFlags().status().message()), HasSubstr("at most one"));
}

TEST_F(RequestFlagsTest, CommandsThatMakeNoSense) {
  ExpectInvalid({}, "no command");
  ExpectInvalid({"sing"}, "unknown command 'sing'");
  ExpectInvalid({"generate", "two", "texts"}, "one text");
  ExpectInvalid({"score", "context"}, "at least one continuation");
  ExpectInvalid({"detokenize", "1", "two"}, "'two'");
  ExpectInvalid({"info", "now"}, "no arguments");
  Set("prompt_tokens", "1");
  ExpectInvalid({"generate", "text"}, "not both");
  ExpectInvalid({"chat", "text"}, "--prompt_tokens");
}

TEST_F(RequestFlagsTest, NoServerIsUnavailable) {
  EXPECT_EQ(Run({"info"}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Run({"generate", "text"}).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace adamoe
