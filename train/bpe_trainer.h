// Trains a byte-fallback BPE tokenizer in the style of Llama-2 and Mixtral and writes it in Hugging
// Face tokenizers' format (tokenizer.json).
//
// Spaces become "▁" and one is put before the text. A token never reaches over a space, a line end,
// or from letters to digits or punctuation, so a text may be encoded word by word. Characters rarer
// than `min_char_count`, and line ends, are spelled in byte tokens. Ids: <unk> 0, <s> 1, </s> 2,
// the 256 bytes, single characters, then merges by rank.
#ifndef ADAMOE_TRAIN_BPE_TRAINER_H_
#define ADAMOE_TRAIN_BPE_TRAINER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adamoe {

struct BpeVocabulary {
  std::vector<std::string> tokens;                  // by id
  std::vector<std::pair<int32_t, int32_t>> merges;  // ids, by rank
};

// How often each word of a text occurs. A word is "▁" or nothing, then characters of one class, in
// UTF-8.
using WordCounts = absl::flat_hash_map<std::string, int64_t>;

// Adds the words of `document` (valid UTF-8) to *counts.
void CountWords(absl::string_view document, WordCounts* counts);

// Learns a vocabulary of at most `vocab_size` tokens; fewer when no pair occurs twice. The result
// depends on the counts alone, not on their order. INVALID_ARGUMENT when `vocab_size` leaves no
// room for bytes and characters.
absl::StatusOr<BpeVocabulary> TrainBpe(const WordCounts& counts, int32_t vocab_size,
                                       int64_t min_char_count);

// The text of the tokenizer.json.
std::string TokenizerJson(const BpeVocabulary& vocabulary);
// The text of the tokenizer_config.json beside it.
std::string TokenizerConfigJson(int32_t max_length);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_BPE_TRAINER_H_
