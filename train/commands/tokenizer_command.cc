#include <spdlog/spdlog.h>

#include "absl/flags/flag.h"
#include "server/base/status_macros.h"
#include "train/bpe_trainer.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

ABSL_FLAG(int32_t, vocab_size, 4096,
          "tokenizer: tokens, the 256 bytes and 3 special ones included");
ABSL_FLAG(int64_t, min_char_count, 20,
          "tokenizer: occurrences from which a character is a token and not spelled in bytes");
ABSL_FLAG(int32_t, max_position_embeddings, 1024,
          "tokenizer, pretrain: tokens of context the model is said to take");

namespace adamoe {

absl::Status RunTokenizer() {
  const std::string out = absl::GetFlag(FLAGS_out);
  if (out.empty()) return absl::InvalidArgumentError("--out is missing");
  WordCounts counts;
  for (const std::string& path : absl::GetFlag(FLAGS_text)) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
    for (absl::string_view document : SplitDocuments(text)) CountWords(document, &counts);
  }
  ASSIGN_OR_RETURN(const BpeVocabulary vocabulary, TrainBpe(counts, absl::GetFlag(FLAGS_vocab_size),
                                                            absl::GetFlag(FLAGS_min_char_count)));
  RETURN_IF_ERROR(MakeFolder(out));
  RETURN_IF_ERROR(WriteFileAtomically(out + "/tokenizer.json", TokenizerJson(vocabulary)));
  spdlog::info("{} distinct words, {} tokens", counts.size(), vocabulary.tokens.size());
  return WriteFileAtomically(out + "/tokenizer_config.json",
                             TokenizerConfigJson(absl::GetFlag(FLAGS_max_position_embeddings)));
}

}  // namespace adamoe
