// What a training of an existing model reads: text or questions, in the model's tokens.
// Functions are thread-safe.
#ifndef ADAMOE_TRAIN_TRAINING_EXAMPLES_H_
#define ADAMOE_TRAIN_TRAINING_EXAMPLES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"
#include "server/weights/model_config.h"
#include "train/trainer.h"

namespace adamoe {

// The tokenizer in a model's folder. INVALID_ARGUMENT when it has more tokens than the model.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerOf(const std::string& model_dir,
                                                           const ModelConfig& config);

struct ExampleFiles {
  // One of the two.
  std::vector<std::string> text;     // see OpenTextCorpus
  std::vector<std::string> choices;  // see OpenChoiceExamples
};

// Errors as of OpenTextCorpus and OpenChoiceExamples; INVALID_ARGUMENT unless one of the two kinds
// is given. `window` in tokens; batch and threads are those of `trainer`.
absl::StatusOr<std::unique_ptr<ExampleSource>> OpenExamples(const ExampleFiles& files,
                                                            int64_t window, uint64_t seed,
                                                            const TrainerOptions& trainer,
                                                            const Tokenizer& tokenizer);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_TRAINING_EXAMPLES_H_
