#include "server/tokenizer/incremental_decoder.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "server/tokenizer/unicode.h"
#include "tests/unit/tokenizer/goldens.h"

namespace adamoe {
namespace {

using Ids = std::vector<int32_t>;

// All pieces, each checked to be whole characters.
std::vector<std::string> Pieces(const Tokenizer& tokenizer, const Ids& ids, bool follows_text) {
  IncrementalDecoder decoder(tokenizer, follows_text);
  std::vector<std::string> pieces;
  for (const int32_t id : ids) pieces.push_back(decoder.Push(id));
  pieces.push_back(decoder.Flush());
  for (const std::string& piece : pieces) EXPECT_EQ(FindIllFormedUtf8(piece), std::string::npos);
  return pieces;
}

std::string Joined(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

// Ids of which many are single bytes, so that characters come apart and go wrong.
Ids RandomIds(const Tokenizer& tokenizer, std::mt19937* random) {
  const int32_t top = (*random)() % 2 == 0 ? 300 : tokenizer.vocab_size();
  Ids ids((*random)() % 20);
  for (int32_t& id : ids) id = static_cast<int32_t>((*random)() % static_cast<uint32_t>(top));
  return ids;
}

TEST(IncrementalDecoder, PiecesMakeTheWholeText) {
  std::mt19937 random(1);
  for (const char* name : {"byte_level", "llama_split", "byte_fallback"}) {
    const auto tokenizer = LoadGolden(name);
    for (int i = 0; i < 3000; ++i) {
      const Ids ids = RandomIds(*tokenizer, &random);
      ASSERT_EQ(Joined(Pieces(*tokenizer, ids, false)), tokenizer->Decode(ids).value()) << name;
    }
  }
}

TEST(IncrementalDecoder, ContinuesAPrompt) {
  std::mt19937 random(2);
  for (const char* name : {"byte_level", "llama_split", "byte_fallback"}) {
    const auto tokenizer = LoadGolden(name);
    const Ids prompt = tokenizer->Encode("The prompt", {}).value();
    const std::string prompt_text = tokenizer->Decode(prompt).value();
    for (int i = 0; i < 1000; ++i) {
      const Ids ids = RandomIds(*tokenizer, &random);
      Ids both = prompt;
      both.insert(both.end(), ids.begin(), ids.end());
      ASSERT_EQ(prompt_text + Joined(Pieces(*tokenizer, ids, true)),
                tokenizer->Decode(both).value());
    }
  }
}

TEST(IncrementalDecoder, TextOfTheGoldensAtEverySplit) {
  for (const auto& answers : ReadGolden("answers.json")) {
    const auto tokenizer = LoadGolden(answers["tokenizer"]);
    for (const auto& answer : answers["encodings"]) {
      EXPECT_EQ(Joined(Pieces(*tokenizer, answer["ids"], false)),
                answer["decoded"].get<std::string>());
    }
  }
}

TEST(IncrementalDecoder, HoldsBackNoMoreThanItMust) {
  const auto tokenizer = Tokenizer::Parse(TinyTokenizer().dump(), "t").value();
  // "▁ab", then the bytes of ä, then "cd".
  EXPECT_EQ(Pieces(*tokenizer, {265, 3 + 0xC3, 3 + 0xA4, 266}, true),
            (std::vector<std::string>{" ab", "", "", "äcd", ""}));
  EXPECT_EQ(Pieces(*tokenizer, {265, 3 + 0xC3}, false),
            (std::vector<std::string>{"ab", "", "\uFFFD"}));
  EXPECT_EQ(Pieces(*tokenizer, {1, 9999, -5, 265, 2}, true),
            (std::vector<std::string>{"", "", "", " ab", "", ""}));
}

TEST(IncrementalDecoder, ByteLevelGivesACharacterWithItsLastByte) {
  const auto tokenizer = LoadGolden("byte_level");
  Ids ids;  // 🦙, F0 9F A6 99, a token a byte
  for (const char* token : {"ð", "Ł", "¦", "Ļ"}) ids.push_back(tokenizer->TokenId(token));
  EXPECT_EQ(Pieces(*tokenizer, ids, true), (std::vector<std::string>{"", "", "", "🦙", ""}));
  ids.resize(3);
  ids.push_back(tokenizer->TokenId("a"));
  EXPECT_EQ(Pieces(*tokenizer, ids, true), (std::vector<std::string>{"", "", "", "\uFFFDa", ""}));
}

}  // namespace
}  // namespace adamoe
