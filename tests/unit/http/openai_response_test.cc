#include "server/http/openai_response.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>

#include "server/http/json_document.h"
#include "server/serving/utf8.h"
#include "tests/fakes/tokenizer_file.h"

namespace adamoe {
namespace {

class OpenAiResponseTest : public testing::Test {
 protected:
  OpenAiResponseTest() {
    auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
    form_.id = "cmpl-1";
    form_.created = 5;
    form_.model = "the \"model\"";
  }

  v1::Token Token(int32_t id, std::optional<float> logprob) const {
    v1::Token token;
    token.set_id(id);
    token.set_text(MendUtf8(tokenizer_->TokenBytes(id)));
    if (logprob.has_value()) token.set_logprob(*logprob);
    return token;
  }
  void AddTop(v1::Token& token, int32_t id, const std::string& text, float logprob) const {
    auto* top = token.add_top_logprobs();
    top->set_id(id);
    top->set_text(text);
    top->set_logprob(logprob);
  }
  int32_t Id(const std::string& token) const { return tokenizer_->TokenId(token); }

  std::unique_ptr<Tokenizer> tokenizer_;
  OpenAiForm form_;
};

TEST_F(OpenAiResponseTest, ACompletionWithEchoAndLogprobs) {
  form_.logprobs = true;
  OpenAiChoice choice(&form_, 3, tokenizer_.get(), "aé");
  v1::GenerateResponse message;
  *message.add_prompt_tokens_info() = Token(1, std::nullopt);  // <s>
  v1::Token a = Token(Id("a"), -0.1f);
  AddTop(a, Id("b"), "b", -0.05f);
  AddTop(a, Id("a"), "a", -0.1f);
  *message.add_prompt_tokens_info() = a;
  *message.add_prompt_tokens_info() = Token(Id("<0xC3>"), -3);
  *message.add_prompt_tokens_info() = Token(Id("<0xA9>"), -4);
  choice.Add(message);
  message.Clear();
  *message.add_tokens() = Token(Id("c"), -std::numeric_limits<float>::infinity());
  *message.add_tokens() = Token(2, -1);  // </s>
  message.set_text("c");
  message.mutable_finish()->set_reason(v1::STOP_TOKEN);
  choice.Add(message);
  const Json json = Json::parse(choice.TakeJson());
  EXPECT_EQ(json["index"], 3);
  EXPECT_EQ(json["text"], "aéc");
  EXPECT_EQ(json["finish_reason"], "stop");
  const Json& logprobs = json["logprobs"];
  EXPECT_EQ(logprobs["tokens"].dump(), R"(["<s>","a","�","�","c","</s>"])");
  EXPECT_EQ(logprobs["token_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["top_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["token_logprobs"][1].get<double>(), static_cast<double>(-0.1f));
  EXPECT_EQ(logprobs["token_logprobs"][4], -9999.0);
  EXPECT_EQ(logprobs["top_logprobs"][1].size(), 2u);
  EXPECT_EQ(logprobs["top_logprobs"][1]["a"], logprobs["token_logprobs"][1]);
  // The token itself is among the likeliest, also where no alternatives are asked for.
  EXPECT_EQ(logprobs["top_logprobs"][2].dump(), R"({"�":-3.0})");
  // In characters: a character that takes two tokens starts with the first.
  EXPECT_EQ(logprobs["text_offset"].dump(), "[0,0,1,1,2,3]");
}

// Of two tokens that read alike the likelier one stands: the chosen one is then not the greedy one.
TEST_F(OpenAiResponseTest, AlternativesThatReadAlike) {
  form_.logprobs = true;
  OpenAiChoice choice(&form_, 0, tokenizer_.get(), std::nullopt);
  v1::GenerateResponse message;
  v1::Token token = Token(Id("<0xC3>"), -2);
  AddTop(token, Id("<0xC4>"), "\ufffd", -0.5f);
  *message.add_tokens() = token;
  choice.Add(message);
  EXPECT_EQ(Json::parse(choice.TakeJson())["logprobs"]["top_logprobs"].dump(), R"([{"�":-0.5}])");
}

TEST_F(OpenAiResponseTest, ThePromptAlone) {
  form_.logprobs = form_.drops_output = true;
  OpenAiChoice choice(&form_, 0, tokenizer_.get(), "a");
  v1::GenerateResponse message;
  *message.add_prompt_tokens_info() = Token(Id("a"), std::nullopt);
  *message.add_tokens() = Token(2, -1);
  message.set_text("x");
  message.mutable_finish()->set_reason(v1::STOP_TOKEN);
  choice.Add(message);
  EXPECT_EQ(choice.num_tokens(), 0u);
  const Json json = Json::parse(choice.TakeJson());
  EXPECT_EQ(json["text"], "a");
  EXPECT_EQ(json["logprobs"]["tokens"].dump(), R"(["a"])");
  EXPECT_EQ(json["finish_reason"], "length");
}

TEST_F(OpenAiResponseTest, ChatWithLogprobsAndExperts) {
  form_.api = OpenAiApi::kChat;
  form_.logprobs = form_.return_experts = form_.experts_per_layer = true;
  OpenAiChoice choice(&form_, 0, tokenizer_.get(), std::nullopt);
  v1::GenerateResponse message;
  v1::Token token = Token(Id("<0xC3>"), -2);
  AddTop(token, 2, "", -0.5f);
  token.set_experts(5);
  token.add_experts_per_layer(2);
  token.add_experts_per_layer(3);
  *message.add_tokens() = token;
  message.mutable_finish()->set_reason(v1::LENGTH);
  message.set_text("\"\n\ufffd");
  choice.Add(message);
  const Json json = Json::parse(choice.TakeJson());
  EXPECT_EQ(json["message"]["role"], "assistant");
  EXPECT_EQ(json["message"]["content"], "\"\n\ufffd");
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["experts"].dump(), "[5]");
  EXPECT_EQ(json["experts_per_layer"].dump(), "[[2,3]]");
  const Json& entry = json["logprobs"]["content"][0];
  EXPECT_EQ(entry["bytes"].dump(), "[195]");
  EXPECT_EQ(entry["logprob"], -2.0);
  EXPECT_EQ(entry["top_logprobs"].dump(), R"([{"token":"</s>","logprob":-0.5,"bytes":[]}])");
}

TEST_F(OpenAiResponseTest, ChunksHoldWhatIsNew) {
  form_.api = OpenAiApi::kChat;
  form_.chunks = form_.null_usage = true;
  OpenAiChoice choice(&form_, 1, tokenizer_.get(), std::nullopt);
  EXPECT_EQ(Json::parse(choice.RoleJson())["delta"].dump(), R"({"role":"assistant","content":""})");
  v1::GenerateResponse message;
  message.set_text("one");
  choice.Add(message);
  EXPECT_EQ(Json::parse(choice.TakeJson())["delta"].dump(), R"({"content":"one"})");
  message.set_text("two");
  message.mutable_finish()->set_reason(v1::STOP_SEQUENCE);
  message.mutable_finish()->set_stop_sequence("\"\n");
  choice.Add(message);
  const Json chunk = Json::parse(OpenAiResponseJson(form_, choice.TakeJson(), ""));
  EXPECT_EQ(chunk["object"], "chat.completion.chunk");
  EXPECT_EQ(chunk["model"], "the \"model\"");
  EXPECT_EQ(chunk["choices"][0]["delta"]["content"], "two");
  EXPECT_EQ(chunk["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunk["choices"][0]["stop_reason"], "\"\n");
  EXPECT_EQ(chunk["choices"][0]["logprobs"], nullptr);
  EXPECT_TRUE(chunk.contains("usage") && chunk["usage"].is_null());
}

TEST_F(OpenAiResponseTest, SaysWhichOfTheRequestsTokensEndedIt) {
  form_.stop_token_ids = {7, static_cast<uint32_t>(Id("a"))};
  for (const int32_t last : {Id("a"), Id("c")}) {
    OpenAiChoice choice(&form_, 0, tokenizer_.get(), std::nullopt);
    v1::GenerateResponse message;
    *message.add_tokens() = Token(last, -1);
    choice.Add(message);
    EXPECT_EQ(Json::parse(choice.TakeJson())["stop_reason"], nullptr);
    message.Clear();
    message.mutable_finish()->set_reason(v1::STOP_TOKEN);
    choice.Add(message);
    const Json reason = Json::parse(choice.TakeJson())["stop_reason"];
    EXPECT_EQ(reason, last == Id("a") ? Json(last) : Json(nullptr));
  }
}

TEST_F(OpenAiResponseTest, UsageCountsAPromptOnce) {
  v1::Usage usage;
  google::protobuf::TextFormat::ParseFromString(
      "prompt_tokens: 7 completion_tokens: 3 cached_prompt_tokens: 4 true_slots: 10 null_slots: 20 "
      "dropped_slots: 30 executed_expert_flops: 40 saved_expert_flops: 50 baseline_expert_flops: "
      "60",
      &usage);
  OpenAiUsage total;
  total.Add(usage, true, true);
  total.Add(usage, false, true);
  const Json json = Json::parse(total.Json());
  EXPECT_EQ(json["prompt_tokens"], 7);
  EXPECT_EQ(json["completion_tokens"], 6);
  EXPECT_EQ(json["total_tokens"], 13);
  EXPECT_EQ(json["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_EQ(json["experts"].dump(),
            R"({"true_slots":20,"null_slots":40,"dropped_slots":60,"executed_flops":80,)"
            R"("saved_flops":100,"baseline_flops":120})");
}

}  // namespace
}  // namespace adamoe
