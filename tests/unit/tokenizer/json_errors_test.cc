// A tokenizer.json is outside input: whatever is wrong with it is found when it is loaded, and
// named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/tokenizer/goldens.h"

namespace adamoe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

void ExpectRefused(const std::string& text, const std::string& problem) {
  const auto tokenizer = Tokenizer::Parse(text, "dir/tokenizer.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << problem;
  EXPECT_THAT(std::string(tokenizer.status().message()),
              HasSubstr("dir/tokenizer.json: " + problem));
}

TEST(TokenizerJson, TinyTokenizerIsSound) {
  EXPECT_TRUE(Tokenizer::Parse(TinyTokenizer().dump(), "t").ok());
}

TEST(TokenizerJson, MissingFile) {
  const auto tokenizer = Tokenizer::Load("/nowhere");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("/nowhere/tokenizer.json"));
}

TEST(TokenizerJson, RefusesWhatIsNoDocument) {
  ExpectRefused("", "not JSON: ");
  ExpectRefused("{\"model\": ", "not JSON: ");
  ExpectRefused("{\"model\": \"\xFF\"}", "not JSON: ");
  ExpectRefused("[]", "expected an object, got array");
  ExpectRefused("3", "expected an object, got 3");
  ExpectRefused("{}", "model: is missing");
  ExpectRefused(std::string(1000000, '['), "nested deeper than 64");
}

struct Change {
  const char* pointer;  // what is replaced in TinyTokenizer()
  json value;
  const char* problem;
};

class TokenizerJsonChange : public testing::TestWithParam<Change> {};

TEST_P(TokenizerJsonChange, IsRefused) {
  json file = TinyTokenizer();
  file[json::json_pointer(GetParam().pointer)] = GetParam().value;
  ExpectRefused(file.dump(), GetParam().problem);
}

INSTANTIATE_TEST_SUITE_P(
    Model, TokenizerJsonChange,
    testing::Values(
        Change{"/model", nullptr, "model: is missing"},
        Change{"/model", 3, "model.vocab: expected an object, got null"},
        Change{"/model/type", "Unigram", "model.type: unknown model \"Unigram\""},
        Change{"/model/type", 7, "model.type: expected a string, got 7"},
        Change{"/model/dropout", 0.1, "model.dropout: is not supported"},
        Change{"/model/dropout", "no", "model.dropout: is not supported"},
        Change{"/model/continuing_subword_prefix", "##",
               "model.continuing_subword_prefix: is not supported"},
        Change{"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix: is not supported"},
        Change{"/model/end_of_word_suffix", 1, "model.end_of_word_suffix: expected a string"},
        Change{"/model/byte_fallback", "yes",
               "model.byte_fallback: expected true or false, got string"},
        Change{"/model/fuse_unk", 1, "model.fuse_unk: expected true or false, got 1"},
        Change{"/model/ignore_merges", json::array(),
               "model.ignore_merges: expected true or false, got array"},
        Change{"/model/unk_token", "<none>",
               "model.unk_token: \"<none>\" is not in the vocabulary"},
        Change{"/model/unk_token", 0, "model.unk_token: expected a string, got 0"}));

INSTANTIATE_TEST_SUITE_P(
    Vocab, TokenizerJsonChange,
    testing::Values(Change{"/model/vocab", json::array({"a", "b"}),
                           "model.vocab: expected an object, got array"},
                    Change{"/model/vocab/ab", -1,
                           "model.vocab.ab: expected a whole number in [0, 1048575], got -1"},
                    Change{"/model/vocab/ab", 1.5,
                           "model.vocab.ab: expected a whole number in [0, 1048575], got 1.5"},
                    Change{"/model/vocab/ab", 1048576,
                           "model.vocab.ab: expected a whole number in [0, 1048575], got 1048576"},
                    Change{"/model/vocab/ab", uint64_t{1} << 63,
                           "model.vocab.ab: expected a whole number"},
                    Change{"/model/vocab/ab", 1e300, "model.vocab.ab: expected a whole number"},
                    Change{"/model/vocab/ab", "264",
                           "model.vocab.ab: expected a whole number in [0, 1048575], got string"},
                    Change{"/model/vocab/ab", nullptr,
                           "model.vocab.ab: expected a whole number in [0, 1048575], got null"},
                    Change{"/model/vocab/b", 260, "model.vocab: \"b\" and \"a\" share id 260"}));

INSTANTIATE_TEST_SUITE_P(
    Merges, TokenizerJsonChange,
    testing::Values(
        Change{"/model/merges", nullptr, "model.merges: expected an array, got null"},
        Change{"/model/merges", "a b", "model.merges: expected an array, got string"},
        Change{"/model/merges/1", 5, "model.merges[1]: expected a string, got 5"},
        Change{"/model/merges/1", "ab",
               "model.merges[1]: expected two tokens and a space between them"},
        Change{"/model/merges/1", "a b c",
               "model.merges[1]: expected two tokens and a space between them"},
        Change{"/model/merges/1", json::array({"a"}), "model.merges[1]: expected two tokens"},
        Change{"/model/merges/1", json::array({"a", "b", "c"}),
               "model.merges[1]: expected two tokens"},
        Change{"/model/merges/1", json::array({"a", 1}),
               "model.merges[1][1]: expected a string, got 1"},
        Change{"/model/merges/1", "a z", "model.merges[1]: \"z\" is not in the vocabulary"},
        Change{"/model/merges/1", "z a", "model.merges[1]: \"z\" is not in the vocabulary"},
        Change{"/model/merges/1", "b a", "model.merges[1]: \"ba\" is not in the vocabulary"}));

INSTANTIATE_TEST_SUITE_P(
    AddedTokens, TokenizerJsonChange,
    testing::Values(Change{"/added_tokens", 1, "added_tokens: expected an array, got 1"},
                    Change{"/added_tokens/1", "<s>",
                           "added_tokens[1].id: expected a whole number in [0, 1048575], got null"},
                    Change{"/added_tokens/1/id", 9,
                           "added_tokens[1]: \"<s>\" has id 1 in the vocabulary, not 9"},
                    Change{"/added_tokens/1/content", "<t>",
                           "added_tokens[1]: id 1 is \"<s>\" already, not \"<t>\""},
                    Change{"/added_tokens/1/id", 1048576,
                           "added_tokens[1].id: expected a whole number in [0, 1048575]"},
                    Change{"/added_tokens/1/content", "", "added_tokens[1].content: is empty"},
                    Change{"/added_tokens/1/content", nullptr,
                           "added_tokens[1].content: expected a string, got null"},
                    Change{"/added_tokens/1/special", 1,
                           "added_tokens[1].special: expected true or false, got 1"},
                    Change{"/added_tokens/1/lstrip", "",
                           "added_tokens[1].lstrip: expected true or false"}));

json Part(const char* type, json fields = json::object()) {
  fields["type"] = type;
  return fields;
}

INSTANTIATE_TEST_SUITE_P(
    Normalizer, TokenizerJsonChange,
    testing::Values(
        Change{"/normalizer", json::array(), "normalizer.type: expected a string, got null"},
        Change{"/normalizer", Part("Precompiled"),
               "normalizer: unknown normalizer \"Precompiled\""},
        Change{"/normalizer", Part("Sequence"),
               "normalizer.normalizers: expected an array, got null"},
        Change{"/normalizer", Part("Sequence", {{"normalizers", {Part("NFC"), Part("NFX")}}}),
               "normalizer.normalizers[1]: unknown normalizer \"NFX\""},
        Change{"/normalizer", Part("Prepend"), "normalizer.prepend: expected a string, got null"},
        Change{"/normalizer", Part("Replace", {{"content", ""}}),
               "normalizer.pattern: expected {\"String\""},
        Change{"/normalizer", Part("Replace", {{"content", ""}, {"pattern", {{"String", ""}}}}),
               "normalizer.pattern.String: an empty pattern"},
        Change{"/normalizer", Part("Replace", {{"content", 1}, {"pattern", {{"String", "a"}}}}),
               "normalizer.content: expected a string, got 1"}));

INSTANTIATE_TEST_SUITE_P(
    PreTokenizer, TokenizerJsonChange,
    testing::Values(
        Change{"/pre_tokenizer", Part("BertPreTokenizer"),
               "pre_tokenizer: unknown pre-tokenizer \"BertPreTokenizer\""},
        Change{"/pre_tokenizer", Part("ByteLevel"),
               "pre_tokenizer.add_prefix_space: expected true or false, got null"},
        Change{"/pre_tokenizer",
               Part("Split", {{"pattern", {{"Regex", "a("}}}, {"behavior", "Isolated"}}),
               "pre_tokenizer.pattern.Regex: bad regular expression: end pattern with unmatched "
               "parenthesis"},
        Change{"/pre_tokenizer",
               Part("Split", {{"pattern", {{"Regex", "[z-a]"}}}, {"behavior", "Isolated"}}),
               "pre_tokenizer.pattern.Regex: bad regular expression: "},
        Change{"/pre_tokenizer",
               Part("Split", {{"pattern", {{"String", "a"}}}, {"behavior", "Cut"}}),
               "pre_tokenizer.behavior: unknown behavior \"Cut\""},
        Change{"/pre_tokenizer", Part("Metaspace", {{"replacement", "__"}}),
               "pre_tokenizer.replacement: expected one character"},
        Change{"/pre_tokenizer",
               Part("Metaspace", {{"replacement", "_"}, {"prepend_scheme", "last"}}),
               "pre_tokenizer.prepend_scheme: unknown scheme \"last\""},
        Change{
            "/pre_tokenizer",
            Part("Metaspace",
                 {{"replacement", "_"}, {"prepend_scheme", "first"}, {"add_prefix_space", false}}),
            "pre_tokenizer.prepend_scheme: contradicts add_prefix_space"}));

const json kTemplateText = {{"Sequence", {{"id", "A"}}}};
const json kTemplateBos = {{"SpecialToken", {{"id", "<s>"}}}};

json Template(json single, json special_tokens) {
  return Part("TemplateProcessing",
              {{"single", std::move(single)}, {"special_tokens", std::move(special_tokens)}});
}

INSTANTIATE_TEST_SUITE_P(
    PostProcessor, TokenizerJsonChange,
    testing::Values(Change{"/post_processor", Part("BertProcessing"),
                           "post_processor: unknown post-processor \"BertProcessing\""},
                    Change{"/post_processor",
                           Template(json::array({kTemplateBos, kTemplateText}), json::object()),
                           "post_processor.special_tokens.<s>: is missing, the template names it"},
                    Change{"/post_processor", Template(json::array(), json::object()),
                           "post_processor.single: expected the text exactly once"},
                    Change{"/post_processor",
                           Template(json::array({kTemplateText, kTemplateText}), json::object()),
                           "post_processor.single: expected the text exactly once"},
                    Change{"/post_processor",
                           Template(json::array({kTemplateBos, kTemplateText}),
                                    {{"<s>", {{"ids", json::array({999})}}}}),
                           "post_processor: adds id 999, which no token has"},
                    Change{"/post_processor",
                           Template(json::array({kTemplateBos, kTemplateText}),
                                    {{"<s>", {{"ids", json::array({-1})}}}}),
                           "post_processor.special_tokens.<s>.ids[0]: expected a whole number"}));

INSTANTIATE_TEST_SUITE_P(
    Decoder, TokenizerJsonChange,
    testing::Values(
        Change{"/decoder", Part("WordPiece"), "decoder: unknown decoder \"WordPiece\""},
        Change{"/decoder", Part("Sequence", {{"decoders", {Part("Fuse"), Part("ByteFallback")}}}),
               "decoder.decoders[1]: \"ByteFallback\" after tokens are fused is not supported"},
        Change{"/decoder", Part("Strip", {{"content", ""}, {"start", 1}, {"stop", 0}}),
               "decoder.content: expected one character"},
        Change{"/decoder", Part("Strip", {{"content", " "}, {"start", -1}, {"stop", 0}}),
               "decoder.start: expected a whole number"}));

TEST(TokenizerJson, HolesInTheVocabularyAreNoTokens) {
  json file = TinyTokenizer();
  file["model"]["vocab"]["e"] = 400;
  const auto tokenizer = Tokenizer::Parse(file.dump(), "t").value();
  EXPECT_EQ(tokenizer->vocab_size(), 401);
  EXPECT_EQ(tokenizer->Decode({264, 300, 400}).value(), "abe");
  EXPECT_EQ(tokenizer->TokenBytes(300), "");
  EXPECT_FALSE(tokenizer->IsSpecial(300));
}

TEST(TokenizerJson, EmptyVocabularyIsRefused) {
  ExpectRefused(R"({"model": {"vocab": {}, "merges": []}})", "model.vocab: is empty");
}

TEST(TokenizerJson, TextCannotGrowWithoutBound) {
  json file = TinyTokenizer();
  const json grow = Part("Replace", {{"pattern", {{"String", "a"}}}, {"content", "aaaaaaaaaa"}});
  file["normalizer"] = Part("Sequence", {{"normalizers", json(20, grow)}});
  const auto grown = Tokenizer::Parse(file.dump(), "t").value()->Encode("a", {});
  EXPECT_EQ(grown.status().code(), absl::StatusCode::kResourceExhausted);
  file["normalizer"] = nullptr;
  const json bytes = Part("ByteLevel", {{"add_prefix_space", false}, {"use_regex", false}});
  file["pre_tokenizer"] = Part("Sequence", {{"pretokenizers", json(40, bytes)}});
  const auto doubled = Tokenizer::Parse(file.dump(), "t").value()->Encode("é", {});
  EXPECT_EQ(doubled.status().code(), absl::StatusCode::kResourceExhausted);
  file["decoder"] = Part("Sequence", {{"decoders", json(65, grow)}});
  ExpectRefused(file.dump(), "decoder.decoders[64]: more than 64 steps");
}

TEST(TokenizerJson, CatastrophicPatternGivesUp) {
  json file = TinyTokenizer();
  file["pre_tokenizer"] =
      Part("Split", {{"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}});
  const auto tokenizer = Tokenizer::Parse(file.dump(), "t").value();
  const auto ids = tokenizer->Encode(std::string(60, 'a') + "b", {});
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("retry-limit"));
}

}  // namespace
}  // namespace adamoe
