// Normalizers, pre-tokenizers, decoders and added tokens one at a time; what they must do is
// Hugging Face's.
#include <gtest/gtest.h>

#include <vector>

#include "server/tokenizer/json_field.h"
#include "server/tokenizer/normalizer.h"
#include "server/tokenizer/pre_tokenizer.h"
#include "server/tokenizer/text_decoder.h"
#include "tests/unit/tokenizer/goldens.h"

namespace adamoe {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

std::string Normalize(const char* rules, const std::string& text) {
  const json document = json::parse(rules);
  return Normalizer::Parse(JsonField(&document, "t")).value().Apply(text).value();
}

Strings Words(const char* rules, const std::string& text, bool starts_text = true) {
  const json document = json::parse(rules);
  const PreTokenizer rule = PreTokenizer::Parse(JsonField(&document, "t")).value();
  const std::vector<Word> parts = rule.Apply({text, starts_text}).value();
  Strings words;
  for (const Word& word : parts) {
    words.push_back(word.text);
  }
  return words;
}

std::string Decode(const char* rules, const Strings& tokens, bool follows_text = false) {
  const json document = json::parse(rules);
  const TextDecoder decoder = TextDecoder::Parse(JsonField(&document, "t")).value();
  TextStream stream(&decoder, follows_text);
  std::string text;
  for (const std::string& token : tokens) stream.Push(token, &text);
  stream.Finish(&text);
  return text;
}

TEST(Normalizer, NormalForms) {
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", "e\u0301\u212B"), "\u00E9\u00C5");
  EXPECT_EQ(Normalize(R"({"type": "NFD"})", "\u00E9"), "e\u0301");
  EXPECT_EQ(Normalize(R"({"type": "NFKC"})", "\uFB01\u00BD"), "fi1\u20442");
  EXPECT_EQ(Normalize(R"({"type": "NFKD"})", "\u00E9\uFB01"), "e\u0301fi");
  EXPECT_EQ(Normalize(R"({"type": "NFC"})", std::string("a\0e\u0301", 5)),
            std::string("a\0\u00E9", 4));
  EXPECT_EQ(Normalize(R"({"type": "Lowercase"})", "AbCÄΣİ"), "abcäσi\u0307");
}

TEST(Normalizer, StepsInOrder) {
  const char* rules = R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": " "}, {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
      {"type": "Replace", "pattern": {"Regex": "[0-9]+"}, "content": "#"}]})";
  EXPECT_EQ(Normalize(rules, "a 12 b3"), "_a_#_b#");
  EXPECT_EQ(Normalize(rules, ""), "");
}

TEST(PreTokenizer, SplitBehaviors) {
  const auto words = [](const std::string& behavior, bool invert = false) {
    const std::string rules = R"({"type": "Split", "pattern": {"String": "-"}, "invert": )" +
                              std::string(invert ? "true" : "false") + R"(, "behavior": ")" +
                              behavior + "\"}";
    return Words(rules.c_str(), "the-final--countdown-");
  };
  EXPECT_EQ(words("Isolated"), (Strings{"the", "-", "final", "-", "-", "countdown", "-"}));
  EXPECT_EQ(words("Removed"), (Strings{"the", "final", "countdown"}));
  EXPECT_EQ(words("Removed", true), (Strings{"-", "-", "-", "-"}));
  EXPECT_EQ(words("MergedWithPrevious"), (Strings{"the-", "final-", "-", "countdown-"}));
  EXPECT_EQ(words("MergedWithNext"), (Strings{"the", "-final", "-", "-countdown", "-"}));
  EXPECT_EQ(words("Contiguous"), (Strings{"the", "-", "final", "--", "countdown", "-"}));
}

TEST(PreTokenizer, ByteLevel) {
  EXPECT_EQ(Words(R"({"type": "ByteLevel", "add_prefix_space": true})", "it's 12\u00E9  x"),
            (Strings{"Ġit", "'s", "Ġ12", "Ã©", "Ġ", "Ġx"}));
  EXPECT_EQ(
      Words(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})", "a b\n"),
      (Strings{"aĠbĊ"}));
}

TEST(PreTokenizer, Metaspace) {
  EXPECT_EQ(Words(R"({"type": "Metaspace", "replacement": "▁"})", "a b"), (Strings{"▁a", "▁b"}));
  EXPECT_EQ(Words(R"({"type": "Metaspace", "replacement": "▁"})", " a"), (Strings{"▁a"}));
  const char* first =
      R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false})";
  EXPECT_EQ(Words(first, "a b"), (Strings{"▁a▁b"}));
  EXPECT_EQ(Words(first, "a b", false), (Strings{"a▁b"}));
}

TEST(PreTokenizer, CharacterClasses) {
  EXPECT_EQ(Words(R"({"type": "Digits", "individual_digits": true})", "a12ⅷ"),
            (Strings{"a", "1", "2", "ⅷ"}));
  EXPECT_EQ(Words(R"({"type": "Digits"})", "a12b"), (Strings{"a", "12", "b"}));
  EXPECT_EQ(Words(R"({"type": "Punctuation"})", "a,b«!$"), (Strings{"a", ",", "b", "«", "!", "$"}));
  EXPECT_EQ(Words(R"({"type": "WhitespaceSplit"})", " a,b \u3000c"), (Strings{"a,b", "c"}));
  EXPECT_EQ(Words(R"({"type": "Whitespace"})", "a_1,! b"), (Strings{"a_1", ",!", "b"}));
}

TEST(TextDecoder, ByteFallbackRuns) {
  const char* rules = R"({"type": "ByteFallback"})";
  EXPECT_EQ(Decode(rules, {"<0xC3>", "<0xA4>", "b"}), "äb");
  EXPECT_EQ(Decode(rules, {"<0x61>", "<0xC3>", "b"}), "\uFFFD\uFFFDb");
  EXPECT_EQ(Decode(rules, {"<0xG1>", "<0x1>"}), "<0xG1><0x1>");
  EXPECT_EQ(Decode(rules, {"<0x61>"}), "a");
}

TEST(TextDecoder, StripTakesFromTokensOrFromTheText) {
  const char* strip = R"({"type": "Strip", "content": "_", "start": 1, "stop": 2})";
  EXPECT_EQ(Decode(strip, {"__a_", "_b___"}), "_ab_");
  const std::string fused =
      std::string(R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, )") + strip + "]}";
  EXPECT_EQ(Decode(fused.c_str(), {"_", "_a_", "_b_", "_", "_"}), "_a__b_");
  EXPECT_EQ(Decode(fused.c_str(), {"_", "_a_"}, true), "__a");
  EXPECT_EQ(Decode(fused.c_str(), {"_", "_", "_"}), "");
}

TEST(TextDecoder, Metaspace) {
  EXPECT_EQ(Decode(R"({"type": "Metaspace", "replacement": "▁"})", {"▁▁a", "▁b"}), "a b");
  EXPECT_EQ(Decode(R"({"type": "Metaspace", "replacement": "▁"})", {"▁▁a", "▁b"}, true), "  a b");
  EXPECT_EQ(
      Decode(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"})", {"▁a"}),
      " a");
}

TEST(TextDecoder, WithoutRulesTokensAreWords) {
  EXPECT_EQ(Decode("null", {"a", "b"}), "a b");
  EXPECT_EQ(Decode("null", {"a", "b"}, true), " a b");
}

TEST(BpeModel, UnknownCharacters) {
  json file = TinyTokenizer();
  file["normalizer"] = nullptr;
  const auto ids = [&file](const std::string& text) {
    return Tokenizer::Parse(file.dump(), "t").value()->Encode(text, {}).value();
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(ids("aéb"), (Ids{260, 3 + 0xC3, 3 + 0xA9, 261}));
  file["model"]["byte_fallback"] = false;
  EXPECT_EQ(ids("aéüb"), (Ids{260, 0, 0, 261}));
  file["model"]["fuse_unk"] = true;
  EXPECT_EQ(ids("aéüb"), (Ids{260, 0, 261}));
  EXPECT_EQ(ids("é"), (Ids{0}));
  file["model"]["unk_token"] = nullptr;
  EXPECT_EQ(ids("aéb"), (Ids{264}));
  EXPECT_EQ(ids("é"), (Ids{}));
}

TEST(BpeModel, LowestRankFirstThenLeftmost) {
  json file = TinyTokenizer();
  file["normalizer"] = nullptr;
  file["model"]["vocab"]["bc"] = 300;
  file["model"]["vocab"]["aa"] = 301;
  file["model"]["merges"] = {"b c", "a b", "a a"};
  const auto tokenizer = Tokenizer::Parse(file.dump(), "t").value();
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(tokenizer->Encode("abcd", {}).value(), (Ids{260, 300, 263}));
  EXPECT_EQ(tokenizer->Encode("aaa", {}).value(), (Ids{301, 260}));
  EXPECT_EQ(tokenizer->Encode("aab", {}).value(), (Ids{260, 264}));
}

}  // namespace
}  // namespace adamoe
