#include "server/http/openai_request.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;

constexpr OpenAiApi kCompletions = OpenAiApi::kCompletions;
constexpr OpenAiApi kChat = OpenAiApi::kChat;

OpenAiRequest Read(OpenAiApi api, const std::string& body) {
  auto request = ReadOpenAiRequest(api, body, "served");
  EXPECT_TRUE(request.ok()) << request.status() << " for " << body;
  return request.ok() ? *std::move(request) : OpenAiRequest();
}

v1::GenerateRequest Choice(const OpenAiRequest& request, int index) {
  v1::GenerateRequest proto;
  FillGenerateRequest(request, index, &proto);
  return proto;
}

void ExpectProto(const v1::GenerateRequest& proto, const std::string& text) {
  v1::GenerateRequest expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &expected)) << text;
  EXPECT_TRUE(MessageDifferencer::Equals(proto, expected)) << proto.DebugString();
}

TEST(ReadOpenAiRequestTest, APromptAloneGetsOpenAisDefaults) {
  const OpenAiRequest request = Read(kCompletions, R"({"prompt":"Once","model":"served"})");
  EXPECT_EQ(request.num_choices(), 1);
  EXPECT_FALSE(request.stream || request.echo || request.logprobs || request.return_experts);
  ExpectProto(Choice(request, 0), R"(prompt: "Once" sampling { max_tokens: 16 })");
}

TEST(ReadOpenAiRequestTest, EveryFieldOfSampling) {
  const OpenAiRequest request = Read(kCompletions, R"({
    "prompt": [5, 6, 7], "model": null, "max_tokens": 9, "min_tokens": 2, "temperature": 0.5, "top_p": 0.25,
    "top_k": -1, "min_p": 0.125, "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5,
    "seed": -1, "stop": ["a", "b"], "stop_token_ids": [3], "ignore_eos": true, "logit_bias": {"7": 2.5, "9": -100},
    "priority": -3, "user": "someone", "logprobs": 4, "an_unknown_field": {"x": 1}, "n": 1, "best_of": 1})");
  ExpectProto(Choice(request, 0), R"(
    prompt_tokens { ids: [5, 6, 7] }
    sampling {
      max_tokens: 9 min_tokens: 2 temperature: 0.5 top_p: 0.25 top_k: 0 min_p: 0.125 presence_penalty: 1
      frequency_penalty: -1 repetition_penalty: 1.5 seed: 18446744073709551615 stop: "a" stop: "b" stop_token_ids: 3
      ignore_eos: true logit_bias { key: 7 value: 2.5 } logit_bias { key: 9 value: -100 } }
    priority: -3 logprobs: 4)");
  EXPECT_TRUE(request.logprobs);
}

TEST(ReadOpenAiRequestTest, PromptsTimesChoicesAreNumberedByPrompt) {
  const OpenAiRequest request =
      Read(kCompletions, R"({"prompt":["x",[4],"y"],"n":2,"seed":10,"max_tokens":1})");
  ASSERT_EQ(request.num_choices(), 6);
  const char* const inputs[] = {R"(prompt: "x")", "prompt_tokens { ids: 4 }", R"(prompt: "y")"};
  for (int i = 0; i < 6; ++i) {
    ExpectProto(Choice(request, i),
                absl::StrCat(inputs[i / 2], " sampling { max_tokens: 1 seed: ", 10 + i % 2, " }"));
  }
}

TEST(ReadOpenAiRequestTest, EchoAsHarnessesAskForIt) {
  const OpenAiRequest scored = Read(
      kCompletions,
      R"({"model":"served","prompt":[[1,2,3]],"temperature":0,"max_tokens":1,"logprobs":1,"seed":1234,"echo":true})");
  EXPECT_TRUE(scored.echo && scored.logprobs);
  EXPECT_FALSE(scored.drops_output);
  EXPECT_TRUE(Choice(scored, 0).prompt_logprobs());
  const OpenAiRequest prompt_only =
      Read(kCompletions, R"({"prompt":"x","max_tokens":0,"echo":true,"logprobs":1})");
  EXPECT_TRUE(prompt_only.drops_output);
  EXPECT_EQ(Choice(prompt_only, 0).sampling().max_tokens(), 1u);
  // Without echo there is nothing to answer with: left for the checks to refuse.
  EXPECT_EQ(
      Choice(Read(kCompletions, R"({"prompt":"x","max_tokens":0})"), 0).sampling().max_tokens(),
      0u);
}

TEST(ReadOpenAiRequestTest, Chat) {
  const OpenAiRequest request = Read(kChat, R"({
    "messages": [
      {"role": "developer", "content": "Be kind."},
      {"role": "user", "content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}], "name": "x"},
      {"role": "assistant", "content": "Hi", "tool_calls": []},
      {"role": "user", "content": "Bye"}],
    "max_tokens": 3, "max_completion_tokens": 7, "logprobs": true, "top_logprobs": 2, "stop": "x",
    "stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true},
    "tools": [], "tool_choice": "auto", "modalities": ["text"], "store": true, "parallel_tool_calls": true})");
  EXPECT_TRUE(request.stream && request.include_usage && request.continuous_usage);
  ExpectProto(Choice(request, 0), R"(
    messages {
      messages { role: "system" content: "Be kind." } messages { role: "user" content: "Hello" }
      messages { role: "assistant" content: "Hi" } messages { role: "user" content: "Bye" } }
    sampling { max_tokens: 7 stop: "x" } logprobs: 2)");
  EXPECT_EQ(OpenAiField(request, 0, "sampling.max_tokens"), "max_completion_tokens");
}

TEST(ReadOpenAiRequestTest, FormsOfOutput) {
  const struct {
    const char* fields;
    const char* proto;
    const char* field;
  } cases[] = {
      {R"("response_format":{"type":"json_object"})", "json_object: true", "response_format"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"z":1,"a":2}}})",
       R"(json_schema: "{\"z\":1,\"a\":2}")", "response_format.json_schema.schema"},
      {R"("structured_outputs":{"json":{"type":"object"}})",
       R"(json_schema: "{\"type\":\"object\"}")", "structured_outputs.json"},
      {R"("structured_outputs":{"json":"{}"})", R"(json_schema: "{}")", "structured_outputs.json"},
      {R"("structured_outputs":{"json_object":true})", "json_object: true",
       "structured_outputs.json_object"},
      {R"("structured_outputs":{"regex":"a+"})", R"(regex: "a+")", "structured_outputs.regex"},
      {R"("structured_outputs":{"grammar":"root ::= x"})", R"(grammar: "root ::= x")",
       "structured_outputs.grammar"},
      {R"("structured_outputs":{"choice":["a","b"]})", R"(choice { choices: "a" choices: "b" })",
       "structured_outputs.choice"},
      {R"("guided_choice":["a"])", R"(choice { choices: "a" })", "guided_choice"},
      {R"("guided_json":{"type":"string"})", R"(json_schema: "{\"type\":\"string\"}")",
       "guided_json"},
  };
  for (const auto& [fields, proto, field] : cases) {
    const OpenAiRequest request =
        Read(kCompletions, absl::StrCat(R"({"prompt":"x","max_tokens":1,)", fields, "}"));
    ExpectProto(
        Choice(request, 0),
        absl::StrCat(R"(prompt: "x" sampling { max_tokens: 1 } structured { )", proto, " }"));
    EXPECT_EQ(OpenAiField(request, 0, "structured.json_schema"), field);
    EXPECT_EQ(OpenAiField(request, 0, "structured.choice.choices[3]"), absl::StrCat(field, "[3]"));
  }
  EXPECT_FALSE(Choice(Read(kChat, R"({"messages":[],"response_format":{"type":"text"}})"), 0)
                   .has_structured());
}

TEST(ReadOpenAiRequestTest, ComputeAndExperts) {
  const OpenAiRequest request = Read(
      kCompletions,
      R"({"prompt":"x","max_tokens":1,"compute":{"null_bias":0.5,"max_experts_per_token":2},"experts_per_layer":true})");
  EXPECT_TRUE(request.return_experts && request.experts_per_layer);
  ExpectProto(Choice(request, 0), R"(
    prompt: "x" sampling { max_tokens: 1 } compute { null_bias: 0.5 max_experts_per_token: 2 } experts_per_layer: true)");
  EXPECT_FALSE(Read(kCompletions, R"({"prompt":"x","return_experts":true})").experts_per_layer);
}

TEST(ReadOpenAiRequestTest, FieldsAsTheClientWroteThem) {
  const OpenAiRequest one = Read(kCompletions, R"({"prompt":[1],"n":2})");
  EXPECT_EQ(OpenAiField(one, 1, "prompt_tokens.ids[0]"), "prompt[0]");
  EXPECT_EQ(OpenAiField(one, 1, "prompt_tokens"), "prompt");
  EXPECT_EQ(OpenAiField(one, 0, "sampling.logit_bias[4]"), "logit_bias[4]");
  EXPECT_EQ(OpenAiField(one, 0, "compute.null_bias"), "compute.null_bias");
  const OpenAiRequest many = Read(kCompletions, R"({"prompt":["a",[1]],"n":2})");
  EXPECT_EQ(OpenAiField(many, 1, "prompt"), "prompt[0]");
  EXPECT_EQ(OpenAiField(many, 2, "prompt_tokens.ids[5]"), "prompt[1][5]");
}

TEST(ReadOpenAiRequestTest, ErrorsNameTheField) {
  const struct {
    OpenAiApi api;
    std::string fields;  // beside a prompt, or messages, that are well
    std::string words;
  } cases[] = {
      {kCompletions, R"("model":"another")", "model: the model 'another' does not exist"},
      {kCompletions, R"("model":3)", "model: must be a string, is a number"},
      {kCompletions, R"("max_tokens":"5")", "max_tokens: must be a whole number, is a string"},
      {kCompletions, R"("max_tokens":-1)",
       "max_tokens: -1 is not a whole number in [0, 4294967295]"},
      {kCompletions, R"("max_tokens":1.5)", "max_tokens: 1.5 is not"},
      {kCompletions, R"("max_tokens":1e300)", "max_tokens: 1e+300 is not"},
      {kCompletions, R"("max_tokens":18446744073709551615)",
       "max_tokens: 18446744073709551615 is not"},
      {kCompletions, R"("max_tokens":true)", "max_tokens: must be a whole number, is a boolean"},
      {kCompletions, R"("temperature":"hot")", "temperature: must be a number, is a string"},
      {kCompletions, R"("stream":"yes")", "stream: must be a boolean, is a string"},
      {kCompletions, R"("stream":1)", "stream: must be a boolean, is a number"},
      {kCompletions, R"("stream_options":{})", "stream_options: needs stream"},
      {kCompletions, R"("stream":true,"stream_options":{"include_usage":1})",
       "stream_options.include_usage: must be a boolean"},
      {kCompletions, R"("n":0)", "n: 0 is not a whole number in [1, 128]"},
      {kCompletions, R"("n":129)", "n: 129 is not"},
      {kCompletions, R"("n":2,"best_of":3)", "best_of: more than n"},
      {kCompletions, R"("stop":5)", "stop: must be a string or a list of strings"},
      {kCompletions, R"("stop":["a",5])", "stop: must be a string or a list of strings"},
      {kCompletions, R"("stop_token_ids":["a"])", "stop_token_ids[0]: a string is no token id"},
      {kCompletions, R"("stop_token_ids":[-1])", "stop_token_ids[0]: -1 is no token id"},
      {kCompletions, R"("logit_bias":{"x":1})", "logit_bias: 'x' is no token id"},
      {kCompletions, R"("logit_bias":{"5":"a"})", "logit_bias[5]: must be a number"},
      {kCompletions, R"("logit_bias":[])", "logit_bias: must be an object, is an array"},
      {kCompletions, R"("logprobs":21)", "logprobs: 21 is not a whole number in [0, 20]"},
      {kCompletions, R"("logprobs":true)", "logprobs: must be a whole number"},
      {kCompletions, R"("priority":2147483648)", "priority: 2147483648 is not"},
      {kCompletions, R"("suffix":"x")", "suffix: insertion is not supported"},
      {kCompletions, R"("use_beam_search":true)", "use_beam_search: "},
      {kCompletions, R"("prompt_logprobs":1)", "prompt_logprobs: "},
      {kCompletions, R"("add_special_tokens":false)", "add_special_tokens: "},
      {kCompletions, R"("skip_special_tokens":false)", "skip_special_tokens: "},
      {kCompletions, R"("response_format":{"type":"xml"})",
       "response_format.type: 'xml' is not one of"},
      {kCompletions, R"("response_format":{"type":"json_schema"})",
       "response_format.json_schema.schema: is missing"},
      {kCompletions,
       R"("response_format":{"type":"json_object"},"structured_outputs":{"regex":"a"})",
       "structured_outputs.regex: is the second form"},
      {kCompletions, R"("structured_outputs":{})", "structured_outputs: one of json"},
      {kCompletions, R"("structured_outputs":{"choice":"a"})",
       "structured_outputs.choice: must be a list of strings"},
      {kCompletions, R"("compute":{"null_bias":"a"})", "compute.null_bias: must be a number"},
      {kCompletions, R"("compute":{"max_experts_per_token":-1})",
       "compute.max_experts_per_token: -1 is not"},
      {kChat, R"("echo":true)", "echo: only /v1/completions"},
      {kChat, R"("top_logprobs":2)", "top_logprobs: needs logprobs to be true"},
      {kChat, R"("logprobs":5)", "logprobs: must be a boolean"},
      {kChat, R"("logprobs":true,"top_logprobs":21)", "top_logprobs: 21 is not"},
      {kChat, R"("tools":[{"type":"function"}])", "tools: tools are not supported"},
      {kChat, R"("tool_choice":"required")", "tool_choice: tools are not supported"},
      {kChat, R"("functions":[{}])", "functions: tools are not supported"},
      {kChat, R"("modalities":["text","audio"])", "modalities: only text"},
      {kChat, R"("audio":{"voice":"x"})", "audio: only text"},
  };
  for (const auto& [api, fields, words] : cases) {
    const char* const input =
        api == kChat ? R"({"messages":[{"role":"user","content":"x"}],)" : R"({"prompt":"x",)";
    const auto request = ReadOpenAiRequest(api, absl::StrCat(input, fields, "}"), "served");
    EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << fields;
    EXPECT_THAT(std::string(request.status().message()), HasSubstr(words)) << fields;
    EXPECT_TRUE(
        request.status().GetPayload("type.googleapis.com/google.rpc.BadRequest").has_value())
        << fields;
  }
}

TEST(ReadOpenAiRequestTest, ErrorsOfTheInput) {
  std::string many = "[";
  for (int i = 0; i < 129; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "\"x\"");
  const struct {
    OpenAiApi api;
    std::string body;
    std::string words;
  } cases[] = {
      {kCompletions, "{}", "prompt: is missing"},
      {kCompletions, R"({"prompt":null})", "prompt: is missing"},
      {kCompletions, R"({"prompt":5})", "prompt: must be a string, token ids"},
      {kCompletions, R"({"prompt":[]})", "prompt: must be a string, token ids"},
      {kCompletions, R"({"prompt":[1,"x"]})", "prompt[1]: a string is no token id"},
      {kCompletions, R"({"prompt":["x",1]})", "prompt[1]: must be a string or a list"},
      {kCompletions, R"({"prompt":[[1],[2,-3]]})", "prompt[1][1]: -3 is no token id"},
      {kCompletions, R"({"prompt":[[1.5]]})", "prompt[0][0]: 1.5 is no token id"},
      {kCompletions, R"({"prompt":[4294967296]})", "prompt[0]: 4294967296 is no token id"},
      {kCompletions, absl::StrCat("{\"prompt\":", many, "]}"), "prompt: 129 prompts"},
      {kCompletions, R"({"prompt":["a","b"],"n":100})", "n: 100 choices for each of 2 prompts"},
      {kChat, "{}", "messages: is missing"},
      {kChat, R"({"messages":{}})", "messages: must be an array, is an object"},
      {kChat, R"({"messages":["x"]})", "messages[0]: must be an object"},
      {kChat, R"({"messages":[{"role":5,"content":"x"}]})", "messages[0].role: must be a string"},
      {kChat, R"({"messages":[{"role":"user"}]})", "messages[0].content: is missing"},
      {kChat, R"({"messages":[{"role":"user","content":3}]})",
       "messages[0].content: must be a string"},
      {kChat,
       R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})",
       "messages[0].content[0].type: 'image_url': only text is supported"},
      {kChat, R"({"messages":[{"role":"assistant","content":"x","tool_calls":[{}]}]})",
       "messages[0].tool_calls: tools are not supported"},
  };
  for (const auto& [api, body, words] : cases) {
    const auto request = ReadOpenAiRequest(api, body, "served");
    EXPECT_TRUE(absl::IsInvalidArgument(request.status())) << body.substr(0, 100);
    EXPECT_THAT(std::string(request.status().message()), HasSubstr(words));
  }
}

}  // namespace
}  // namespace adamoe
