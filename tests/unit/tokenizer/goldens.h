// The committed tokenizers, what Hugging Face's tokenizers answered for them, and a way to write
// variations.
#ifndef ADAMOE_TESTS_UNIT_TOKENIZER_GOLDENS_H_
#define ADAMOE_TESTS_UNIT_TOKENIZER_GOLDENS_H_

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "server/tokenizer/tokenizer.h"

namespace adamoe {

inline std::string GoldenFolder() { return ADAMOE_SOURCE_DIR "/tests/golden/tokenizer/"; }

// The file `path` of the golden folder.
inline nlohmann::json ReadGolden(const std::string& path) {
  std::ifstream file(GoldenFolder() + path);
  return nlohmann::json::parse(file);
}

// One of "byte_level", "llama_split", "byte_fallback".
inline std::unique_ptr<Tokenizer> LoadGolden(const std::string& name) {
  return Tokenizer::Load(GoldenFolder() + name).value();
}

// A byte-fallback tokenizer of few tokens: <unk> <s> </s>, the 256 bytes, ▁ (259), a to d
// (260-263), "ab" (264), "▁ab" (265), "cd" (266), "abcd" (267).
inline nlohmann::json TinyTokenizer() {
  nlohmann::json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    char token[8];
    std::snprintf(token, sizeof(token), "<0x%02X>", byte);
    vocab[token] = 3 + byte;
  }
  int id = 259;
  for (const char* token : {"▁", "a", "b", "c", "d", "ab", "▁ab", "cd", "abcd"})
    vocab[token] = id++;
  nlohmann::json added = nlohmann::json::array();
  for (const char* token : {"<unk>", "<s>", "</s>"}) {
    added.push_back(
        {{"id", vocab[token]}, {"content", token}, {"special", true}, {"normalized", false}});
  }
  return {{"added_tokens", added},
          {"normalizer", {{"type", "Prepend"}, {"prepend", "▁"}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", {"a b", "▁ ab", "c d", "ab cd"}}}}};
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_TOKENIZER_GOLDENS_H_
