#include "client/cli/token_painter.h"

#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_format.h"

namespace adamoe {
namespace {

std::string Mark(absl::string_view text, double experts) {
  return absl::StrFormat("%s<%g>", text, experts);
}
std::string Keep(absl::string_view text, double) { return std::string(text); }

v1::GenerateResponse Message(std::vector<std::pair<std::string, uint32_t>> tokens,
                             const std::string& text) {
  v1::GenerateResponse message;
  for (const auto& [token_text, experts] : tokens) {
    v1::Token* token = message.add_tokens();
    token->set_text(token_text);
    token->set_experts(experts);
  }
  message.set_text(text);
  return message;
}

TEST(TokenPainterTest, OneTokenAMessage) {
  TokenPainter painter(2, Mark);
  EXPECT_EQ(painter.Paint(Message({{"Hello", 3}}, "Hello")), "Hello<1.5>");
  EXPECT_EQ(painter.Paint(Message({{" world", 0}}, " world")), " world<0>");
}

TEST(TokenPainterTest, SeveralTokensInAMessage) {
  TokenPainter painter(1, Mark);
  EXPECT_EQ(painter.Paint(Message({{"a", 1}, {"bc", 2}, {"", 9}, {"d", 3}}, "abcd")),
            "a<1>bc<2>d<3>");
}

TEST(TokenPainterTest, TheFirstTextMayLackItsLeadingSpace) {
  TokenPainter painter(1, Mark);
  EXPECT_EQ(painter.Paint(Message({{" Hello", 1}, {" you", 2}}, "Hello you")), "Hello<1> you<2>");
}

TEST(TokenPainterTest, TextHeldBackComesOutWithItsOwnToken) {
  TokenPainter painter(1, Mark);
  EXPECT_EQ(painter.Paint(Message({{"ab", 1}}, "")), "");
  EXPECT_EQ(painter.Paint(Message({{"cd", 2}}, "abc")), "ab<1>c<2>");
  EXPECT_EQ(painter.Paint(Message({{"e", 3}}, "de")), "d<2>e<3>");
}

TEST(TokenPainterTest, ACharacterOfSeveralTokensGoesWithTheLast) {
  TokenPainter painter(1, Mark);
  EXPECT_EQ(painter.Paint(Message({{"x", 1}, {"\uFFFD", 2}}, "x")), "x<1>");
  EXPECT_EQ(painter.Paint(Message({{"\uFFFD", 3}}, "é")), "é<3>");
  EXPECT_EQ(painter.Paint(Message({{"y", 4}}, "y")), "y<4>");
  EXPECT_EQ(painter.Paint(Message({{" \uFFFD", 5}, {"\uFFFD", 6}}, " 日")), " <5>日<6>");
}

TEST(TokenPainterTest, TextOfATokenThatNeverCameDoesNotHoldUpTheRest) {
  TokenPainter painter(1, Mark);
  EXPECT_EQ(painter.Paint(Message({{"gone", 1}, {"here", 2}}, "here")), "h<2>ere<2>");
}

TEST(TokenPainterTest, BytesThatMakeNoCharacterKeepTheirTokens) {
  TokenPainter painter(1, Mark);
  // Decoders show each byte of an ill-formed run as U+FFFD, also one that would be a character
  // alone.
  EXPECT_EQ(painter.Paint(Message({{"\uFFFD", 1}}, "")), "");
  EXPECT_EQ(painter.Paint(
                Message({{"G", 2}, {"2", 3}, {"\uFFFD", 4}, {"am", 5}}, "\uFFFDG\uFFFD\uFFFDam")),
            "\uFFFD<1>G<2>\uFFFD<3>\uFFFD<4>am<5>");
}

TEST(TokenPainterTest, CharactersOfByteTokensInOneMessage) {
  TokenPainter painter(1, Mark);
  EXPECT_EQ(painter.Paint(Message(
                {{"\uFFFD", 1}, {"\uFFFD", 2}, {"\uFFFD", 3}, {"\uFFFD", 4}, {"x", 5}}, "éèx")),
            "é<2>è<4>x<5>");
}

TEST(TokenPainterTest, EveryByteComesOutInOrderWhateverTheTokensSay) {
  std::mt19937 random(7);
  const std::vector<std::string> pieces = {"a", " b", "é", "日", "\uFFFD", "", "ab", "\n"};
  for (int round = 0; round < 500; ++round) {
    TokenPainter painter(3, Keep);
    for (int i = 0; i < 5; ++i) {
      v1::GenerateResponse message = Message({}, "");
      std::string text;
      for (int j = random() % 4; j > 0; --j) text += pieces[random() % pieces.size()];
      for (int j = random() % 4; j > 0; --j)
        message.add_tokens()->set_text(pieces[random() % pieces.size()]);
      message.set_text(text);
      EXPECT_EQ(painter.Paint(message), text);
    }
  }
}

}  // namespace
}  // namespace adamoe
