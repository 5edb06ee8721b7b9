// Every answer of tests/golden/tokenizer/answers.json.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/unit/tokenizer/goldens.h"

namespace adamoe {
namespace {

using Ids = std::vector<int32_t>;

TEST(TokenizerGolden, EncodesAsHuggingFace) {
  for (const auto& answers : ReadGolden("answers.json")) {
    const std::string name = answers["tokenizer"];
    const auto tokenizer = LoadGolden(name);
    ASSERT_GT(answers["encodings"].size(), 100u);
    for (const auto& answer : answers["encodings"]) {
      const std::string text = answer["text"];
      const EncodeOptions typed = {.add_special_tokens = false, .parse_special_tokens = false};
      const EncodeOptions trusted = {.add_special_tokens = true, .parse_special_tokens = true};
      EXPECT_EQ(tokenizer->Encode(text, typed).value(), answer["ids"].get<Ids>())
          << name << ": " << answer["text"];
      EXPECT_EQ(tokenizer->Encode(text, trusted).value(), answer["with_special"].get<Ids>())
          << name << ": " << answer["text"];
    }
  }
}

TEST(TokenizerGolden, DecodesAsHuggingFace) {
  for (const auto& answers : ReadGolden("answers.json")) {
    const std::string name = answers["tokenizer"];
    const auto tokenizer = LoadGolden(name);
    for (const auto& answer : answers["encodings"]) {
      EXPECT_EQ(tokenizer->Decode(answer["ids"]).value(), answer["decoded"].get<std::string>())
          << name;
    }
    ASSERT_GT(answers["decodings"].size(), 50u);
    for (const auto& answer : answers["decodings"]) {
      EXPECT_EQ(tokenizer->Decode(answer["ids"]).value(), answer["text"].get<std::string>())
          << name << answer["ids"];
    }
  }
}

TEST(Tokenizer, TypedControlTextStaysText) {
  for (const char* name : {"byte_level", "llama_split", "byte_fallback"}) {
    const auto tokenizer = LoadGolden(name);
    for (const char* text :
         {"<s>", "</s>", "<unk>", "<|endoftext|>", "a<|begin_of_text|>b", " <|eot_id|> "}) {
      const std::vector<int32_t> ids =
          tokenizer->Encode(text, {.add_special_tokens = false}).value();
      for (const int32_t id : ids) {
        EXPECT_FALSE(tokenizer->IsSpecial(id)) << name << " " << text;
      }
    }
  }
}

TEST(Tokenizer, MergesNeverMakeAControlToken) {
  nlohmann::json file = TinyTokenizer();
  const int control = file["model"]["vocab"]["abcd"];
  file["added_tokens"].push_back(
      {{"id", control}, {"content", "abcd"}, {"special", true}, {"normalized", false}});
  file["normalizer"] = nullptr;
  for (const bool ignore_merges : {false, true}) {
    file["model"]["ignore_merges"] = ignore_merges;
    const auto tokenizer = Tokenizer::Parse(file.dump(), "t").value();
    EXPECT_EQ(tokenizer->Encode("abcd", {false, false}).value(), (Ids{264, 266}));
    EXPECT_EQ(tokenizer->Encode("abcd", {false, true}).value(), (Ids{control}));
  }
}

TEST(Tokenizer, KnowsItsTokens) {
  const auto tokenizer = Tokenizer::Parse(TinyTokenizer().dump(), "t").value();
  EXPECT_EQ(tokenizer->vocab_size(), 268);
  EXPECT_EQ(tokenizer->TokenId("▁ab"), 265);
  EXPECT_EQ(tokenizer->TokenId("</s>"), 2);
  EXPECT_EQ(tokenizer->TokenId("zz"), -1);
  EXPECT_TRUE(tokenizer->IsSpecial(1));
  EXPECT_FALSE(tokenizer->IsSpecial(265));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_FALSE(tokenizer->IsSpecial(268));
  EXPECT_EQ(tokenizer->TokenBytes(265), " ab");
  EXPECT_EQ(tokenizer->TokenBytes(3 + 0xE4), "\xE4");
  EXPECT_EQ(tokenizer->TokenBytes(1), "");
  EXPECT_EQ(tokenizer->TokenBytes(9999), "");
  EXPECT_TRUE(tokenizer->strips_leading_space());
  EXPECT_FALSE(LoadGolden("byte_level")->strips_leading_space());
  const auto byte_level = LoadGolden("llama_split");
  EXPECT_EQ(byte_level->TokenBytes(byte_level->TokenId("Ġworld")), " world");
}

TEST(Tokenizer, ServesManyThreadsAtOnce) {
  const auto answers = ReadGolden("answers.json")[1];
  const auto tokenizer = LoadGolden(answers["tokenizer"]);
  std::vector<std::thread> threads;
  std::atomic<int> num_wrong{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (const auto& answer : answers["encodings"]) {
        const std::string text = answer["text"];
        const auto ids = tokenizer->Encode(text, {.add_special_tokens = false});
        if (!ids.ok() || *ids != answer["ids"].get<Ids>()) ++num_wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, 0);
}

TEST(Tokenizer, RefusesWhatIsNotUtf8) {
  const auto tokenizer = LoadGolden("byte_fallback");
  for (const char* text :
       {"ab\xFF", "ab\xC0\x80", "ab\xED\xA0\x80", "ab\xF4\x90\x80\x80", "ab\xE4\xBD"}) {
    const auto ids = tokenizer->Encode(text, {});
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ids.status().message(), "text is not well-formed UTF-8 at byte 2");
  }
}

TEST(Tokenizer, RefusesToDecodeUnknownIds) {
  const auto tokenizer = Tokenizer::Parse(TinyTokenizer().dump(), "t").value();
  for (const int32_t id : {-1, 268, INT32_MAX, INT32_MIN}) {
    const auto text = tokenizer->Decode({264, id});
    EXPECT_EQ(text.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(text.status().message(), "ids[1] is " + std::to_string(id) + ", not in [0, 268)");
  }
}

}  // namespace
}  // namespace adamoe
