#include "tests/fakes/tokenizer_file.h"

#include <cstddef>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace adamoe {
namespace {

using nlohmann::ordered_json;

constexpr char kMetaspace[] = "\u2581";

ordered_json AddedToken(int32_t id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

// Tokens in the order of their ids, and the merges that make those of several letters.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<std::string> merges;
};

Vocabulary MakeVocabulary(size_t size) {
  Vocabulary v;
  v.tokens = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    v.tokens.push_back(text);
  }
  v.tokens.push_back(kMetaspace);
  for (char c = '!'; c <= '~'; ++c) v.tokens.push_back(std::string(1, c));
  if (v.tokens.size() > size) v.tokens.resize(size);
  std::vector<std::string> shorter;
  for (char c = 'a'; c <= 'z'; ++c) shorter.push_back(std::string(1, c));
  while (v.tokens.size() < size) {
    std::vector<std::string> longer;
    for (const std::string& prefix : shorter) {
      for (char c = 'a'; c <= 'z' && v.tokens.size() < size; ++c) {
        longer.push_back(prefix + c);
        v.tokens.push_back(longer.back());
        v.merges.push_back(prefix + " " + c);
      }
    }
    shorter = std::move(longer);
  }
  return v;
}

ordered_json PostProcessor() {
  const ordered_json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const auto sequence = [](const char* id, int type) -> ordered_json {
    return {{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", ordered_json::array({bos, sequence("A", 0)})},
          {"pair", ordered_json::array({bos, sequence("A", 0), bos, sequence("B", 1)})},
          {"special_tokens",
           {{"<s>",
             {{"id", "<s>"},
              {"ids", ordered_json::array({1})},
              {"tokens", ordered_json::array({"<s>"})}}}}}};
}

ordered_json ReplaceRule(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

}  // namespace

std::string ByteFallbackTokenizer(int32_t vocab_size) {
  const Vocabulary vocabulary = MakeVocabulary(static_cast<size_t>(vocab_size));
  nlohmann::json ids = nlohmann::json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) ids[vocabulary.tokens[id]] = id;
  const ordered_json model = {{"type", "BPE"},
                              {"dropout", nullptr},
                              {"unk_token", "<unk>"},
                              {"continuing_subword_prefix", nullptr},
                              {"end_of_word_suffix", nullptr},
                              {"fuse_unk", true},
                              {"byte_fallback", true},
                              {"vocab", ids},
                              {"merges", vocabulary.merges}};
  const ordered_json prepend = {{"type", "Prepend"}, {"prepend", kMetaspace}};
  const ordered_json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const ordered_json byte_fallback = {{"type", "ByteFallback"}};
  const ordered_json fuse = {{"type", "Fuse"}};
  const ordered_json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens",
       ordered_json::array({AddedToken(0, "<unk>"), AddedToken(1, "<s>"), AddedToken(2, "</s>")})},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers", ordered_json::array({prepend, ReplaceRule(" ", kMetaspace)})}}},
      {"pre_tokenizer", nullptr},
      {"post_processor", PostProcessor()},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         ordered_json::array({ReplaceRule(kMetaspace, " "), byte_fallback, fuse, strip})}}},
      {"model", model}};
  return tokenizer.dump() + "\n";
}

}  // namespace adamoe
