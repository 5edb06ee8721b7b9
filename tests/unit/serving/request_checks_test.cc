#include <adamoe/v1/inference.pb.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "server/serving/check_generate.h"
#include "server/serving/check_score.h"
#include "tests/fakes/tokenizer_file.h"

namespace adamoe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kVocabSize = 300;
constexpr int32_t kContext = 64;
constexpr int32_t kBos = 1;

class RequestChecksTest : public testing::Test {
 protected:
  RequestChecksTest() {
    auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(kVocabSize), "tokenizer.json");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
    model_.vocab_size = kVocabSize;
    model_.max_context_tokens = kContext;
    model_.eos_token_ids = {2};
  }

  template <typename Proto>
  static Proto Text(const std::string& text) {
    Proto proto;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &proto)) << text;
    return proto;
  }

  absl::StatusOr<CheckedGenerate> Generate(const v1::GenerateRequest& proto) const {
    return CheckGenerate(proto, *tokenizer_, model_);
  }
  absl::StatusOr<CheckedGenerate> Generate(const std::string& text) const {
    return Generate(Text<v1::GenerateRequest>(text));
  }
  absl::StatusOr<CheckedScore> Score(const std::string& text) const {
    return CheckScore(Text<v1::ScoreRequest>(text), *tokenizer_, model_);
  }
  std::vector<int32_t> Encode(const std::string& text) const {
    const auto ids = tokenizer_->Encode(text, {});
    EXPECT_TRUE(ids.ok());
    return *ids;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  ServedModel model_;
};

std::string Repeat(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// Checks the code, the detail's field, and words of the message.
void ExpectFieldError(const absl::Status& status, const std::string& field,
                      const std::string& words) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << field << ": " << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(field + ": "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value()) << status;
  google::rpc::BadRequest detail;
  ASSERT_TRUE(detail.ParseFromString(std::string(*payload)));
  ASSERT_EQ(detail.field_violations_size(), 1);
  EXPECT_EQ(detail.field_violations(0).field(), field);
}

TEST_F(RequestChecksTest, DefaultsAreTheDocumentedOnes) {
  const auto checked = Generate("prompt_tokens { ids: [5, 6, 7] }");
  ASSERT_TRUE(checked.ok()) << checked.status();
  const Request& request = *checked->request;
  EXPECT_THAT(request.prompt, ElementsAre(5, 6, 7));
  EXPECT_EQ(request.sampling.max_tokens, kContext - 3);
  EXPECT_EQ(request.sampling.temperature, 1);
  EXPECT_EQ(request.sampling.top_p, 1);
  EXPECT_EQ(request.sampling.repetition_penalty, 1);
  EXPECT_TRUE(request.sampling.seed.has_value());
  EXPECT_THAT(request.sampling.stop_token_ids, ElementsAre(2));
  EXPECT_FALSE(request.num_top_logprobs.has_value());
  EXPECT_FALSE(request.prompt_info_from.has_value());
  EXPECT_EQ(request.compute, ComputeDial());
  EXPECT_FALSE(request.id.empty());
}

TEST_F(RequestChecksTest, MaxTokensIsAtMost256WhenUnset) {
  model_.max_context_tokens = 4096;
  const auto checked = Generate("prompt_tokens { ids: 5 }");
  ASSERT_TRUE(checked.ok());
  EXPECT_EQ(checked->request->sampling.max_tokens, 256);
  const auto filling = Generate("prompt_tokens { ids: 5 } sampling { fill_context: true }");
  ASSERT_TRUE(filling.ok());
  EXPECT_EQ(filling->request->sampling.max_tokens, 4095);
  const auto both =
      Generate("prompt_tokens { ids: 5 } sampling { fill_context: true max_tokens: 7 }");
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->request->sampling.max_tokens, 7);
}

TEST_F(RequestChecksTest, EveryFieldArrives) {
  const auto checked = Generate(R"(
    request_id: "mine" prompt_tokens { ids: 9 }
    sampling { max_tokens: 20 min_tokens: 3 temperature: 0 top_k: 40 top_p: 0.5 min_p: 0.25
      repetition_penalty: 1.5 presence_penalty: -2 frequency_penalty: 2 seed: 18446744073709551615
      stop: "a" stop: "bc" stop_token_ids: 8 ignore_eos: true
      logit_bias { key: 4 value: -100 } }
    logprobs: 20 prompt_logprobs: true priority: -3
    compute { null_bias: -1000 max_experts_per_token: 1 } experts_per_layer: true)");
  ASSERT_TRUE(checked.ok()) << checked.status();
  const Request& request = *checked->request;
  EXPECT_EQ(request.id, "mine");
  EXPECT_EQ(request.sampling.max_tokens, 20);
  EXPECT_EQ(request.sampling.min_tokens, 3);
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.top_p, 0.5);
  EXPECT_EQ(request.sampling.min_p, 0.25);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5);
  EXPECT_EQ(request.sampling.presence_penalty, -2);
  EXPECT_EQ(request.sampling.frequency_penalty, 2);
  EXPECT_EQ(request.sampling.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(request.sampling.stop_token_ids, ElementsAre(8));
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(testing::Pair(4, -100.0f)));
  EXPECT_THAT(checked->stops, ElementsAre("a", "bc"));
  EXPECT_EQ(request.num_top_logprobs, 20u);
  EXPECT_EQ(request.prompt_info_from, 0u);
  EXPECT_EQ(request.priority, -3);
  EXPECT_EQ(request.compute, (ComputeDial{-1000, 1}));
  EXPECT_TRUE(request.experts_per_layer);
}

TEST_F(RequestChecksTest, TextGetsBosAndTokensDoNot) {
  const auto text = Generate("prompt: 'hi'");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->request->prompt, Encode("hi"));
  EXPECT_EQ(text->request->prompt.front(), kBos);
}

TEST_F(RequestChecksTest, RefusesWhatIsOutOfRange) {
  const std::string prompt = "prompt_tokens { ids: [5, 6, 7] } ";
  const struct {
    std::string request;
    std::string field;
    std::string words;
  } cases[] = {
      {"", "input", "must be set"},
      {"prompt_tokens {}", "prompt_tokens", "no tokens"},
      {"prompt_tokens { ids: [3, 300] }", "prompt_tokens.ids[1]",
       "300 is not below vocab_size 300"},
      {"prompt_tokens { ids: 4294967295 }", "prompt_tokens.ids[0]", "4294967295"},
      {"prompt_tokens { " + Repeat(64, "ids: 3 ") + "}", "prompt_tokens", "64 tokens, at most 63"},
      {"prompt: '" + Repeat(100, "!") + "'", "prompt", "in the context of 64"},
      {"messages {}", "messages", ""},
      {"messages { messages { role: 'robot' content: 'x' } }", "messages", "robot"},
      {"messages { messages { role: 'user' content: 'x' } messages { role: 'assistant' content: "
       "'y' "
       "} }",
       "messages", ""},
      {prompt + "request_id: '" + std::string(129, 'x') + "'", "request_id", "129 bytes"},
      {prompt + "sampling { max_tokens: 0 }", "sampling.max_tokens", "0 is not in [1, 61]"},
      {prompt + "sampling { max_tokens: 62 }", "sampling.max_tokens", "leave 61"},
      {prompt + "sampling { max_tokens: 4 min_tokens: 5 }", "sampling.min_tokens",
       "5 is not in [0, 4]"},
      {prompt + "sampling { temperature: -0.5 }", "sampling.temperature",
       "-0.5 is not in [0, 100]"},
      {prompt + "sampling { temperature: 101 }", "sampling.temperature", "101"},
      {prompt + "sampling { temperature: nan }", "sampling.temperature", "nan"},
      {prompt + "sampling { temperature: inf }", "sampling.temperature", "inf"},
      {prompt + "sampling { top_p: 0 }", "sampling.top_p", "0 is not in (0, 1]"},
      {prompt + "sampling { top_p: 1.5 }", "sampling.top_p", "1.5"},
      {prompt + "sampling { top_p: nan }", "sampling.top_p", "nan"},
      {prompt + "sampling { min_p: 1.5 }", "sampling.min_p", "1.5"},
      {prompt + "sampling { min_p: nan }", "sampling.min_p", "nan"},
      {prompt + "sampling { repetition_penalty: 0 }", "sampling.repetition_penalty", "(0, 100]"},
      {prompt + "sampling { repetition_penalty: nan }", "sampling.repetition_penalty", "nan"},
      {prompt + "sampling { presence_penalty: 2.5 }", "sampling.presence_penalty", "[-2, 2]"},
      {prompt + "sampling { frequency_penalty: -2.5 }", "sampling.frequency_penalty", "[-2, 2]"},
      {prompt + "sampling { stop: 'ok' stop: '' }", "sampling.stop[1]", "0 bytes"},
      {prompt + "sampling { stop: '" + std::string(257, 'x') + "' }", "sampling.stop[0]", "257"},
      {prompt + "sampling { " + Repeat(17, "stop: 'x' ") + "}", "sampling.stop", "17 entries"},
      {prompt + "sampling { stop_token_ids: 300 }", "sampling.stop_token_ids[0]", "300"},
      {prompt + "sampling { " + Repeat(65, "stop_token_ids: 3 ") + "}", "sampling.stop_token_ids",
       "65 entries, at most 64"},
      {prompt + "sampling { logit_bias { key: 300 value: 1 } }", "sampling.logit_bias[300]", "300"},
      {prompt + "sampling { logit_bias { key: 3 value: 101 } }", "sampling.logit_bias[3]", "101"},
      {prompt + "sampling { logit_bias { key: 3 value: nan } }", "sampling.logit_bias[3]", "nan"},
      {prompt + "logprobs: 21", "logprobs", "21 is not in [0, 20]"},
      {prompt + "compute { null_bias: 1001 }", "compute.null_bias", "1001"},
      {prompt + "compute { null_bias: nan }", "compute.null_bias", "nan"},
      {prompt + "compute { max_experts_per_token: 0 }", "compute.max_experts_per_token",
       "at least 1"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.request);
    ExpectFieldError(Generate(c.request).status(), c.field, c.words);
  }
}

TEST_F(RequestChecksTest, TakesTheLimitsThemselves) {
  const std::string prompt = "prompt_tokens { ids: [5, 6, 7] } ";
  for (const std::string& request :
       {prompt + "sampling { max_tokens: 61 min_tokens: 61 temperature: 100 min_p: 1 top_p: 1 }",
        prompt + "sampling { max_tokens: 1 repetition_penalty: 100 presence_penalty: 2 }",
        prompt + "sampling { stop: '" + std::string(256, 'x') + "' " + Repeat(15, "stop: 'y' ") +
            "}",
        prompt + "sampling { " + Repeat(64, "stop_token_ids: 299 ") + "}",
        prompt + "request_id: '" + std::string(128, 'x') + "'", prompt + "logprobs: 0",
        "prompt_tokens { " + Repeat(63, "ids: 299 ") + "}"}) {
    EXPECT_TRUE(Generate(request).ok()) << request << Generate(request).status();
  }
}

TEST_F(RequestChecksTest, LogitBiasesAreLimitedInNumber) {
  model_.vocab_size = 5000;
  auto proto = Text<v1::GenerateRequest>("prompt_tokens { ids: 1 }");
  for (uint32_t id = 0; id < 1024; ++id) (*proto.mutable_sampling()->mutable_logit_bias())[id] = 1;
  EXPECT_TRUE(Generate(proto).ok());
  (*proto.mutable_sampling()->mutable_logit_bias())[1024] = 1;
  ExpectFieldError(Generate(proto).status(), "sampling.logit_bias", "1025 entries, at most 1024");
}

TEST_F(RequestChecksTest, TextThatTheModelHasNoTokenForIsRefused) {
  model_.vocab_size = 100;  // the tokenizer's is 300
  ExpectFieldError(Generate("prompt: 'z'").status(), "prompt", "is not below vocab_size 100");
}

TEST_F(RequestChecksTest, TextThatCannotFitIsNotTokenized) {
  model_.max_text_bytes = 50;
  EXPECT_TRUE(Generate("prompt: '" + std::string(50, 'e') + "'").ok());
  ExpectFieldError(Generate("prompt: '" + std::string(51, 'e') + "'").status(), "prompt",
                   "51 bytes of text cannot fit the context of 64 tokens");
  ExpectFieldError(
      Generate("messages { messages { role: 'user' content: '" + std::string(51, 'e') + "' } }")
          .status(),
      "messages", "51 bytes of text");
  ExpectFieldError(
      Score("context: '" + std::string(51, 'e') + "' continuations { text: 'x' }").status(),
      "context", "51 bytes of text");
}

TEST_F(RequestChecksTest, ScoreRefusesToTokenizeAContextTooOften) {
  const std::string text = "continuations { text: '" + std::string(40000, 'e') + "' } ";
  ExpectFieldError(Score("context: 'a' " + Repeat(420, text)).status(), "continuations",
                   "at most 16777216");
}

TEST_F(RequestChecksTest, MadeIdsAndSeedsDiffer) {
  std::set<std::string> ids;
  std::set<uint64_t> seeds;
  for (int i = 0; i < 100; ++i) {
    const auto checked = Generate("prompt_tokens { ids: 1 }");
    ASSERT_TRUE(checked.ok());
    ids.insert(checked->request->id);
    seeds.insert(*checked->request->sampling.seed);
  }
  EXPECT_EQ(ids.size(), 100);
  EXPECT_EQ(seeds.size(), 100);
}

TEST_F(RequestChecksTest, ScoreSplitsTextAsHarnessesDo) {
  const auto checked = Score(R"(
    context: "ab cd  " continuations { text: "ef" } continuations { text: " gh" }
    continuations { tokens { ids: [7, 8] } })");
  ASSERT_TRUE(checked.ok()) << checked.status();
  const std::vector<int32_t> context = Encode("ab cd");
  EXPECT_EQ(checked->context, context);
  // The spaces went over to the continuation.
  const auto tail = [&](const std::string& text) {
    const std::vector<int32_t> all = Encode(text);
    return std::vector<int32_t>(all.begin() + static_cast<int>(context.size()), all.end());
  };
  EXPECT_EQ(checked->continuations[0], tail("ab cd  ef"));
  EXPECT_EQ(checked->continuations[1], tail("ab cd   gh"));
  EXPECT_THAT(checked->continuations[2], ElementsAre(7, 8));
}

TEST_F(RequestChecksTest, ScoreOfAnEmptyContextStandsOnBos) {
  const auto checked = Score("context: '' continuations { text: 'x' }");
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->context, Encode(""));
  EXPECT_EQ(checked->context.front(), kBos);
}

TEST_F(RequestChecksTest, ScoreRefusesWhatCannotBeScored) {
  const std::string context = "context_tokens { ids: [5, 6] } ";
  const std::string one = "continuations { tokens { ids: 3 } } ";
  const struct {
    std::string request;
    std::string field;
    std::string words;
  } cases[] = {
      {one, "input", "must be set"},
      {"context_tokens {} " + one, "context_tokens", "no tokens"},
      {"context_tokens { ids: 300 } " + one, "context_tokens.ids[0]", "300"},
      {"context_tokens { " + Repeat(65, "ids: 3 ") + "} " + one, "context_tokens", "65 tokens"},
      {context, "continuations", "none"},
      {context + Repeat(1025, one), "continuations", "1025 entries, at most 1024"},
      {context + one + "continuations {}", "continuations[1]", "must be set"},
      {context + "continuations { tokens {} }", "continuations[0]", "no tokens"},
      {context + "continuations { text: 'x' }", "continuations[0].text", "needs context"},
      {"context: 'a' continuations { text: '' }", "continuations[0]", "no tokens"},
      {context + "continuations { tokens { ids: [1, 400] } }", "continuations[0].tokens.ids[1]",
       "400"},
      {context + "continuations { tokens { " + Repeat(64, "ids: 3 ") + "} }", "continuations[0]",
       "64 tokens after the context's 2"},
      {context + one + "compute { max_experts_per_token: 0 }", "compute.max_experts_per_token",
       "0"},
      {context + one + "request_id: '" + std::string(129, 'x') + "'", "request_id", "129"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.request.substr(0, 200));
    ExpectFieldError(Score(c.request).status(), c.field, c.words);
  }
}

TEST_F(RequestChecksTest, ScoreTakesAWholeContextAndTheTokenAfterIt) {
  const std::string one = "continuations { tokens { ids: 3 } } ";
  EXPECT_TRUE(Score("context_tokens { ids: [5, 6] } continuations { tokens { " +
                    Repeat(63, "ids: 3 ") + "} }")
                  .ok());
  EXPECT_TRUE(Score("context_tokens { " + Repeat(64, "ids: 3 ") + "} " + one).ok());
}

TEST_F(RequestChecksTest, Structured) {
  const std::string prompt = "prompt: 'x' ";
  EXPECT_FALSE((*Generate(prompt)).request->structured.has_value());
  const auto regex = Generate(prompt + "structured { regex: 'a+' }");
  ASSERT_TRUE(regex.ok()) << regex.status();
  ASSERT_TRUE(regex->request->structured.has_value());
  EXPECT_EQ(regex->request->structured->kind, StructuredOutput::Kind::kRegex);
  EXPECT_EQ(regex->request->structured->text, "a+");
  const auto choice = Generate(prompt + "structured { choice { choices: 'a' choices: 'b' } }");
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_THAT(choice->request->structured->choices, ElementsAre("a", "b"));
  EXPECT_TRUE(Generate(prompt + "structured { json_object: true }").ok());
  EXPECT_TRUE(Generate(prompt + "structured { regex: '" + std::string(65536, 'a') + "' }").ok());

  ExpectFieldError(Generate(prompt + "structured {}").status(), "structured", "must be set");
  ExpectFieldError(Generate(prompt + "structured { json_object: false }").status(),
                   "structured.json_object", "false");
  ExpectFieldError(Generate(prompt + "structured { json_schema: '' }").status(),
                   "structured.json_schema", "0 bytes is not in [1, 65536]");
  ExpectFieldError(
      Generate(prompt + "structured { grammar: '" + std::string(65537, 'a') + "' }").status(),
      "structured.grammar", "65537 bytes");
  ExpectFieldError(Generate(prompt + "structured { choice {} }").status(),
                   "structured.choice.choices", "none");
  ExpectFieldError(Generate(prompt + "structured { choice { choices: 'a' choices: '' } }").status(),
                   "structured.choice.choices[1]", "empty");
  ExpectFieldError(
      Generate(prompt + "structured { choice {" + Repeat(1025, " choices: 'a'") + "} }").status(),
      "structured.choice.choices", "1025 entries");
  ExpectFieldError(Generate(prompt + "structured { choice { choices: '" + std::string(40000, 'a') +
                            "' choices: '" + std::string(40000, 'b') + "' } }")
                       .status(),
                   "structured.choice.choices", "80000 bytes");
}

}  // namespace
}  // namespace adamoe
