#include "server/rpc/open_inference/sampling_parameters.h"

#include <adamoe/v1/inference.pb.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

namespace adamoe {
namespace {

using testing::HasSubstr;

v1::GenerateRequest Expected(const std::string& text) {
  v1::GenerateRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

TEST(SamplingParametersTest, ReadsEveryKey) {
  struct Case {
    const char* json;
    const char* expected;
  };
  const Case kCases[] = {
      {"{}", ""},
      {R"({"max_tokens": 100})", "sampling { max_tokens: 100 }"},
      {R"({"max_tokens": "100"})", "sampling { max_tokens: 100 }"},
      {R"({"max_tokens": 100.0})", "sampling { max_tokens: 100 }"},
      {R"({"max_tokens": null})", ""},
      {R"({"min_tokens": "5", "temperature": "0.5"})",
       "sampling { min_tokens: 5 temperature: 0.5 }"},
      {R"({"top_p": 0.5, "top_k": 7, "min_p": "0.25"})",
       "sampling { top_p: 0.5 top_k: 7 min_p: 0.25 }"},
      {R"({"top_k": -1})", ""},
      {R"({"repetition_penalty": 2, "presence_penalty": 1, "frequency_penalty": -1})",
       "sampling { repetition_penalty: 2 presence_penalty: 1 frequency_penalty: -1 }"},
      {R"({"seed": 42})", "sampling { seed: 42 }"},
      {R"({"stop": "a"})", "sampling { stop: 'a' }"},
      {R"({"stop": ["a", "b"], "stop_token_ids": [1, "2"]})",
       "sampling { stop: 'a' stop: 'b' stop_token_ids: 1 stop_token_ids: 2 }"},
      {R"({"ignore_eos": true})", "sampling { ignore_eos: true }"},
      {R"({"ignore_eos": "True"})", "sampling { ignore_eos: true }"},
      {R"({"logit_bias": {"3": -1, "4": "2"}})",
       "sampling { logit_bias { key: 3 value: -1 } logit_bias { key: 4 value: 2 } }"},
      {R"({"logprobs": 3})", "logprobs: 3"},
      {R"({"null_bias": 1.5, "max_experts_per_token": "1"})",
       "compute { null_bias: 1.5 max_experts_per_token: 1 }"},
      {R"({"structured_outputs": "{\"regex\": \"[a-z]+\"}"})", "structured { regex: '[a-z]+' }"},
      {R"({"structured_outputs": {"json": {"type": "object"}}})",
       R"(structured { json_schema: '{"type":"object"}' })"},
      {R"({"guided_decoding": {"json": "{}", "regex": null}})", "structured { json_schema: '{}' }"},
      {R"({"structured_outputs": {"choice": ["x", "y"]}})",
       "structured { choice { choices: 'x' choices: 'y' } }"},
      {R"({"structured_outputs": {"grammar": "root ::= \"a\""}})",
       R"(structured { grammar: 'root ::= "a"' })"},
      {R"({"structured_outputs": {"json_object": true}})", "structured { json_object: true }"},
      {R"({"n": 1, "best_of": "1", "skip_special_tokens": true, "lora_name": null,
           "spaces_between_special_tokens": false, "include_stop_str_in_output": false,
           "prompt_logprobs": null, "bad_words": []})",
       ""},
  };
  for (const Case& c : kCases) {
    v1::GenerateRequest request;
    const absl::Status status = ReadSamplingJson(c.json, &request);
    EXPECT_TRUE(status.ok()) << c.json << ": " << status;
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(request, Expected(c.expected)))
        << c.json << " became " << request.ShortDebugString();
  }
}

TEST(SamplingParametersTest, NamesWhatCannotBeFollowed) {
  struct Case {
    std::string json;
    const char* error;
  };
  const std::string deep = std::string(5000, '[') + std::string(5000, ']');
  const Case kCases[] = {
      {"", "sampling_parameters: is not JSON"},
      {"{", "sampling_parameters: is not JSON"},
      {"[1]", "sampling_parameters: an array is not a JSON object"},
      {"7", "sampling_parameters: 7 is not a JSON object"},
      {R"({"max_token": 1})", "sampling_parameters.max_token: is not a parameter"},
      {R"({"max_tokens": "many"})", "sampling_parameters.max_tokens: \"many\" is not an integer"},
      {R"({"max_tokens": -1})", "sampling_parameters.max_tokens: -1 is not a count"},
      {R"({"max_tokens": 1e30})", "max_tokens: 1e+30 is not an integer"},
      {R"({"max_tokens": 18446744073709551615})", "max_tokens"},
      {R"({"temperature": [1]})", "temperature: an array is not a number"},
      {R"({"temperature": 1e300})", "temperature: 1e+300 is out of range"},
      {R"({"temperature": "nan"})", "temperature: \"nan\" is out of range"},
      {R"({"ignore_eos": 2})", "ignore_eos: 2 is neither true nor false"},
      {R"({"stop": 5})", "stop: 5 is neither a string"},
      {R"({"stop": [5]})", "stop: 5 is not a string"},
      {R"({"stop_token_ids": {}})", "stop_token_ids: an object is not a list"},
      {R"({"logit_bias": {"x": 1}})", "logit_bias: \"x\" is not a token id"},
      {R"({"logprobs": -1})", "logprobs: -1 is not a count"},
      {R"({"n": 2})", "sampling_parameters.n: 2 is not supported, only 1"},
      {R"({"lora_name": "mine"})", "lora_name: \"mine\" is not supported"},
      {R"({"skip_special_tokens": false})", "skip_special_tokens: false is not supported"},
      {R"({"prompt_logprobs": 1})", "prompt_logprobs: 1 is not supported"},
      {R"({"bad_words": ["x"]})", "bad_words: an array is not supported"},
      {R"({"structured_outputs": "{"})", "structured_outputs: is not JSON"},
      {R"({"structured_outputs": {}})", "structured_outputs: 0 forms of output"},
      {R"({"structured_outputs": {"regex": "a", "grammar": "b"}})", "2 forms of output"},
      {R"({"structured_outputs": {"structural_tag": "a"}})", "\"structural_tag\" is not a form"},
      {R"({"structured_outputs": {"choice": [1]}})", "choice is not a list of strings"},
      {R"({"stop": )" + deep + "}", "nested deeper than"},
      {std::string(300000, ' '), "bytes of JSON, at most"},
      {"{\"\xff\": 1}", "is not JSON"},
  };
  for (const Case& c : kCases) {
    v1::GenerateRequest request;
    const absl::Status status = ReadSamplingJson(c.json, &request);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.json.substr(0, 100) << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.error)) << c.json.substr(0, 100);
  }
}

TEST(SamplingParametersTest, ParametersAreReadAlike) {
  InferParameters parameters;
  parameters["max_tokens"].set_int64_param(5);
  parameters["temperature"].set_double_param(0.5);
  parameters["top_k"].set_uint64_param(3);
  parameters["seed"].set_string_param("7");
  parameters["ignore_eos"].set_bool_param(true);
  parameters["stop_token_ids"].set_string_param("[8]");
  parameters["priority"].set_uint64_param(1);
  parameters["triton_enable_empty_final_response"].set_bool_param(true);
  parameters["sequence_id"].set_int64_param(1);
  v1::GenerateRequest request;
  ASSERT_TRUE(ReadSamplingParameters(parameters, &request).ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(
      request, Expected("sampling { max_tokens: 5 temperature: 0.5 top_k: 3 seed: 7 "
                        "ignore_eos: true stop_token_ids: 8 }")))
      << request.ShortDebugString();

  parameters["null_bias"].set_double_param(2);
  v1::GenerateRequest compute;
  ASSERT_TRUE(ReadComputeParameters(parameters, &compute).ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(
      compute, Expected("compute { null_bias: 2 }")));

  parameters["max_tokens"].clear_parameter_choice();
  EXPECT_THAT(std::string(ReadSamplingParameters(parameters, &request).message()),
              HasSubstr("parameters.max_tokens: has no value of a known type"));
}

}  // namespace
}  // namespace adamoe
