// A trained tokenizer, as the server's tokenizer reads it.
#include "train/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/tokenizer/tokenizer.h"

namespace adamoe {
namespace {

constexpr char kText[] =
    "Once upon a time there was a little fox. The little fox said, \"I'm hungry!\" 17 times.\n"
    "\"Hungry?\" asked the hen.  She had said it before; the fox had said it 171 times.";

BpeVocabulary Train(int32_t vocab_size) {
  WordCounts counts;
  CountWords(kText, &counts);
  absl::StatusOr<BpeVocabulary> vocabulary = TrainBpe(counts, vocab_size, 1);
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
  return *std::move(vocabulary);
}

std::unique_ptr<Tokenizer> Load(const BpeVocabulary& vocabulary) {
  auto tokenizer = Tokenizer::Parse(TokenizerJson(vocabulary), "tokenizer.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(CountWordsTest, CutsAtSpacesLineEndsAndChangesOfClass) {
  WordCounts counts;
  CountWords("a bc1,\nDé a", &counts);
  EXPECT_THAT(counts, testing::UnorderedElementsAre(testing::Pair("▁a", 2), testing::Pair("▁bc", 1),
                                                    testing::Pair("1", 1), testing::Pair(",", 1),
                                                    testing::Pair("Dé", 1)));
}

TEST(TrainBpeTest, LearnsTheMostFrequentPairFirst) {
  WordCounts counts = {{"▁abab", 3}, {"▁ab", 2}, {"cd", 7}};
  const auto vocabulary = TrainBpe(counts, 3 + 256 + 5 + 3, 1);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const size_t first = 3 + 256 + 5;
  ASSERT_EQ(vocabulary->tokens.size(), first + 3);
  EXPECT_EQ(vocabulary->tokens[first], "ab");  // 8 times
  EXPECT_EQ(vocabulary->tokens[first + 1], "cd");
  EXPECT_EQ(vocabulary->tokens[first + 2], "▁ab");  // 5 times
}

TEST(TrainBpeTest, RoundTripsTextInTheServersTokenizer) {
  const auto tokenizer = Load(Train(330));
  for (const std::string& text :
       {std::string(kText), std::string("x"), std::string(""), std::string("  two  spaces "),
        std::string("\n\nlines\n"), std::string("unseen: ÄÖ 漢字 \xF0\x9F\xA6\x8A #@~")}) {
    const auto ids = tokenizer->Encode(text, {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    ASSERT_FALSE(ids->empty());
    EXPECT_EQ(ids->front(), 1) << "<s> comes first";
    const auto decoded = tokenizer->Decode(*ids);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, text);
  }
}

TEST(TrainBpeTest, MergesShortenTextAndKeepClassesApart) {
  const BpeVocabulary vocabulary = Train(330);
  EXPECT_THAT(vocabulary.tokens, testing::Contains("▁said"));
  for (const std::string& token : vocabulary.tokens) {
    if (token.front() == '<') continue;
    EXPECT_EQ(token.find("d,"), std::string::npos) << token;
    EXPECT_EQ(token.find("▁", 1), std::string::npos) << token;
  }
  const auto tokenizer = Load(vocabulary);
  const auto ids = tokenizer->Encode("the fox said", {.add_special_tokens = false});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), 3u);
}

TEST(TrainBpeTest, DependsOnTheCountsAlone) {
  EXPECT_EQ(TokenizerJson(Train(320)), TokenizerJson(Train(320)));
}

TEST(TrainBpeTest, RareCharactersAreSpelledInBytes) {
  WordCounts counts = {{"▁aa", 5}, {"▁z", 1}};
  const auto vocabulary = TrainBpe(counts, 300, 2);
  ASSERT_TRUE(vocabulary.ok());
  EXPECT_THAT(vocabulary->tokens, testing::Not(testing::Contains("z")));
  const auto tokenizer = Load(*vocabulary);
  const auto ids = tokenizer->Encode("z", {.add_special_tokens = false});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->back(), 3 + 'z');
}

TEST(TrainBpeTest, RefusesAVocabularyWithoutRoomForCharacters) {
  const auto vocabulary = TrainBpe({{"▁a", 3}}, 260, 1);
  EXPECT_EQ(vocabulary.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(vocabulary.status().message()), testing::HasSubstr("260"));
}

}  // namespace
}  // namespace adamoe
