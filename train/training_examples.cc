#include "train/training_examples.h"

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "train/choice_examples.h"
#include "train/text_corpus.h"

namespace adamoe {

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerOf(const std::string& model_dir,
                                                           const ModelConfig& config) {
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(model_dir));
  if (tokenizer->vocab_size() <= config.vocab_size) return tokenizer;
  return absl::InvalidArgumentError(absl::StrCat(model_dir, ": the tokenizer has ",
                                                 tokenizer->vocab_size(), " tokens, the model ",
                                                 config.vocab_size));
}

absl::StatusOr<std::unique_ptr<ExampleSource>> OpenExamples(const ExampleFiles& files,
                                                            int64_t window, uint64_t seed,
                                                            const TrainerOptions& trainer,
                                                            const Tokenizer& tokenizer) {
  if (files.text.empty() == files.choices.empty()) {
    return absl::InvalidArgumentError("expected one of text and choices");
  }
  if (files.text.empty()) {
    return OpenChoiceExamples(files.choices, window, trainer.batch, seed, tokenizer);
  }
  return OpenTextCorpus(files.text, window, seed, tokenizer, trainer.num_threads);
}

}  // namespace adamoe
