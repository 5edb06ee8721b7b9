// A tokenizer.json for a checkpoint folder of tests and benchmarks.
#ifndef ADAMOE_TESTS_FAKES_TOKENIZER_FILE_H_
#define ADAMOE_TESTS_FAKES_TOKENIZER_FILE_H_

#include <cstdint>
#include <string>

namespace adamoe {

// The vocabulary that holds every byte: <unk>, <s>, </s>, 256 byte tokens and the metaspace.
inline constexpr int32_t kMinByteVocabulary = 260;

// The text of a byte-fallback BPE of exactly `vocab_size` tokens, in the form of Llama-2's and
// Mixtral's: <unk>, <s>, </s>, <0x00> ... <0xFF>, the metaspace, then as many as fit of: printable
// ASCII, then strings of lower-case letters with their merges, shorter ones first. Any text can be
// encoded. REQUIRES: vocab_size in [kMinByteVocabulary, 480000].
std::string ByteFallbackTokenizer(int32_t vocab_size);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_TOKENIZER_FILE_H_
