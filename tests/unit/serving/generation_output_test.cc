#include "server/serving/generation_output.h"

#include <adamoe/v1/inference.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/fakes/tokenizer_file.h"

namespace adamoe {
namespace {

using testing::ElementsAre;

class GenerationOutputTest : public testing::Test {
 protected:
  GenerationOutputTest() {
    auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
  }

  // The token of one byte of a character that has none of its own.
  static TokenInfo Byte(unsigned char byte) { return Info(3 + byte); }
  // The token of a printable ASCII character.
  int32_t CharId(char c) const {
    const int32_t id = tokenizer_->TokenId(c == ' ' ? "\xe2\x96\x81" : std::string(1, c));
    EXPECT_GE(id, 0) << c;
    return id;
  }
  TokenInfo Char(char c) const { return Info(CharId(c)); }
  static TokenInfo Info(int32_t id) {
    TokenInfo info;
    info.id = id;
    return info;
  }
  static Outcome Ended(FinishReason reason) { return {absl::OkStatus(), reason, {}}; }

  GenerationOutput Make(std::vector<std::string> stops, uint32_t min_tokens = 0) const {
    return GenerationOutput({"id", std::move(stops), {2}, min_tokens, {100, 3, 2}}, *tokenizer_);
  }
  // Everything that waits, in one.
  static v1::GenerateResponse TakeAll(GenerationOutput& output) {
    v1::GenerateResponse all;
    v1::GenerateResponse message;
    while (output.has_message()) {
      output.TakeMessage(&message);
      const std::string text = all.text() + message.text();
      all.MergeFrom(message);
      all.set_text(text);
    }
    return all;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(GenerationOutputTest, ATokenAtATime) {
  GenerationOutput output = Make({});
  v1::GenerateResponse message;
  for (const char c : std::string("hey")) {
    EXPECT_FALSE(output.AddToken(Char(c)));
    ASSERT_TRUE(output.has_message());
    output.TakeMessage(&message);
    EXPECT_EQ(message.request_id(), "id");
    EXPECT_EQ(message.text(), std::string(1, c));
    EXPECT_EQ(message.tokens_size(), 1);
    EXPECT_EQ(message.tokens(0).text(), std::string(1, c));
    EXPECT_FALSE(message.tokens(0).has_logprob());
    EXPECT_FALSE(message.has_finish());
    EXPECT_FALSE(output.has_message());
  }
  output.Finish(Ended(FinishReason::kLength));
  output.TakeMessage(&message);
  EXPECT_EQ(message.tokens_size(), 0);
  EXPECT_EQ(message.finish().reason(), v1::LENGTH);
  EXPECT_FALSE(output.has_message());
}

TEST_F(GenerationOutputTest, ALaggingReaderGetsSeveralTokensInOneMessage) {
  GenerationOutput output = Make({});
  for (const char c : std::string("hello")) output.AddToken(Char(c));
  output.Finish(Ended(FinishReason::kLength));
  v1::GenerateResponse message;
  output.TakeMessage(&message);
  EXPECT_EQ(message.text(), "hello");
  EXPECT_EQ(message.tokens_size(), 5);
  EXPECT_TRUE(message.has_finish());
  EXPECT_FALSE(output.has_message());
}

TEST_F(GenerationOutputTest, CharactersComeWhole) {
  GenerationOutput output = Make({});
  output.AddToken(Byte(0xe2));
  output.AddToken(Byte(0x82));
  v1::GenerateResponse message = TakeAll(output);
  EXPECT_EQ(message.text(), "");
  EXPECT_EQ(message.tokens(0).text(), "\xef\xbf\xbd");
  output.AddToken(Byte(0xac));
  output.AddToken(Char('!'));
  EXPECT_EQ(TakeAll(output).text(), "\xe2\x82\xac!");
}

TEST_F(GenerationOutputTest, WhatIsHeldBackComesAtTheEnd) {
  GenerationOutput output = Make({"hello!"});
  for (const char c : std::string("so hell")) output.AddToken(Char(c));
  EXPECT_EQ(TakeAll(output).text(), "so ");
  output.AddToken(Byte(0xe2));  // and a character that never becomes whole
  output.Finish(Ended(FinishReason::kLength));
  EXPECT_EQ(TakeAll(output).text(), "hell\xef\xbf\xbd");
}

TEST_F(GenerationOutputTest, AStopStringEndsTheText) {
  GenerationOutput output = Make({"STOP"});
  const std::string text = "go STOP";
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_EQ(output.AddToken(Char(text[i])), i + 1 == text.size());
  }
  output.Finish(Ended(FinishReason::kStopSequence));
  const v1::GenerateResponse all = TakeAll(output);
  EXPECT_EQ(all.text(), "go ");
  EXPECT_EQ(all.tokens_size(), 7);
  EXPECT_EQ(all.finish().reason(), v1::STOP_SEQUENCE);
  EXPECT_EQ(all.finish().stop_sequence(), "STOP");
}

TEST_F(GenerationOutputTest, AStopStringThatShowsOnlyAtTheEndCutsTheText) {
  // A run of bytes is text once it is over: here, at the end.
  GenerationOutput output = Make({"\xe2\x82\xac"});
  output.AddToken(Char('x'));
  for (const unsigned char byte : {0xe2, 0x82, 0xac}) EXPECT_FALSE(output.AddToken(Byte(byte)));
  output.Finish(Ended(FinishReason::kLength));
  const v1::GenerateResponse all = TakeAll(output);
  EXPECT_EQ(all.text(), "x");
  EXPECT_EQ(all.finish().reason(), v1::STOP_SEQUENCE);
}

TEST_F(GenerationOutputTest, AStopStringWaitsForMinTokens) {
  GenerationOutput output = Make({"a"}, /*min_tokens=*/3);
  EXPECT_FALSE(output.AddToken(Char('a')));
  EXPECT_FALSE(output.AddToken(Char('a')));
  EXPECT_TRUE(output.AddToken(Char('a')));
  EXPECT_EQ(TakeAll(output).text(), "aa");
}

TEST_F(GenerationOutputTest, AStopTokenIsListedWithoutText) {
  GenerationOutput output({"id", {}, {CharId('.'), 2}, 0, {100, 3, 2}}, *tokenizer_);
  output.AddToken(Char('x'));
  output.AddToken(Char('.'));
  output.Finish(Ended(FinishReason::kStopToken));
  const v1::GenerateResponse all = TakeAll(output);
  EXPECT_EQ(all.text(), "x");
  ASSERT_EQ(all.tokens_size(), 2);
  EXPECT_EQ(all.tokens(1).id(), CharId('.'));
  EXPECT_EQ(all.finish().reason(), v1::STOP_TOKEN);
}

TEST_F(GenerationOutputTest, TokensKeepAllThatIsKnownOfThem) {
  GenerationOutput output = Make({});
  TokenInfo info = Char('x');
  info.logprob = -0.5f;
  info.top_logprobs = {{CharId('y'), -0.25f}, {CharId('x'), -0.5f}};
  info.experts = 5;
  info.experts_per_layer = {2, 3};
  output.AddPrompt({Char('p'), info});
  output.AddToken(info);
  v1::GenerateResponse message;
  output.TakeMessage(&message);
  ASSERT_EQ(message.prompt_tokens_info_size(), 2);
  EXPECT_FALSE(message.prompt_tokens_info(0).has_logprob());
  for (const v1::Token& token : {message.prompt_tokens_info(1), message.tokens(0)}) {
    EXPECT_EQ(token.logprob(), -0.5f);
    ASSERT_EQ(token.top_logprobs_size(), 2);
    EXPECT_EQ(token.top_logprobs(0).text(), "y");
    EXPECT_EQ(token.top_logprobs(0).logprob(), -0.25f);
    EXPECT_EQ(token.experts(), 5);
    EXPECT_THAT(token.experts_per_layer(), ElementsAre(2, 3));
  }
}

TEST_F(GenerationOutputTest, MessagesStayBelowAReadersLimit) {
  GenerationOutput output = Make({});
  TokenInfo info = Char('x');
  info.logprob = -1.0f;
  info.top_logprobs.assign(20, {CharId('y'), -2.0f});
  output.AddPrompt(std::vector<TokenInfo>(20000, info));
  for (int i = 0; i < 20000; ++i) output.AddToken(info);
  output.Finish(Ended(FinishReason::kLength));
  int num_messages = 0;
  int num_tokens = 0;
  int num_prompt_tokens = 0;
  size_t num_text_bytes = 0;
  v1::GenerateResponse message;
  for (; output.has_message(); ++num_messages) {
    output.TakeMessage(&message);
    EXPECT_LT(message.ByteSizeLong(), size_t{2} << 20);
    EXPECT_EQ(message.has_finish(), !output.has_message());
    num_tokens += message.tokens_size();
    num_prompt_tokens += message.prompt_tokens_info_size();
    num_text_bytes += message.text().size();
  }
  EXPECT_GT(num_messages, 4);
  EXPECT_EQ(num_tokens, 20000);
  EXPECT_EQ(num_prompt_tokens, 20000);
  EXPECT_EQ(num_text_bytes, 20000);
}

TEST_F(GenerationOutputTest, AFailureLeavesNoFinish) {
  GenerationOutput output = Make({"xyz"});
  output.AddToken(Char('x'));
  output.Finish({absl::UnavailableError("shutting down"), FinishReason::kNone, {}});
  const v1::GenerateResponse all = TakeAll(output);
  EXPECT_EQ(all.text(), "x");
  EXPECT_FALSE(all.has_finish());
}

TEST(FillUsageTest, CountsAsDocumented) {
  Usage usage;
  usage.prompt_tokens = 5;
  usage.completion_tokens = 3;
  usage.cached_prompt_tokens = 1;
  usage.slots = {20, 15, 1};  // of 6 positions, 2 layers and k = 3
  usage.queue_time = absl::Milliseconds(1500);
  usage.prefill_time = absl::Nanoseconds(7);
  usage.decode_time = -absl::Seconds(1);  // a clock set back
  v1::Usage proto;
  FillUsage(usage, {.per_slot = 100, .experts_per_token = 3, .baseline_experts_per_token = 2},
            &proto);
  EXPECT_EQ(proto.prompt_tokens(), 5);
  EXPECT_EQ(proto.completion_tokens(), 3);
  EXPECT_EQ(proto.cached_prompt_tokens(), 1);
  EXPECT_EQ(proto.executed_expert_flops(), 2000);
  EXPECT_EQ(proto.saved_expert_flops(), 1600);
  EXPECT_EQ(proto.baseline_expert_flops(), 12 * 2 * 100);
  EXPECT_EQ(proto.queue_time().seconds(), 1);
  EXPECT_EQ(proto.queue_time().nanos(), 500000000);
  EXPECT_EQ(proto.prefill_time().nanos(), 7);
  EXPECT_EQ(proto.decode_time().seconds(), 0);
}

}  // namespace
}  // namespace adamoe
