#include "train/finetune.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/tokenizer.h"
#include "train/choice_examples.h"
#include "train/device.h"
#include "train/mixtral_training.h"
#include "train/model_folder.h"
#include "train/text_corpus.h"

namespace adamoe {
namespace {

absl::Status CheckOptions(const FinetuneOptions& options) {
  RETURN_IF_ERROR(CheckTrainerOptions(options.trainer));
  if (options.lora.has_value()) RETURN_IF_ERROR(CheckLoraOptions(*options.lora));
  if (options.text.empty() == options.choices.empty()) {
    return absl::InvalidArgumentError("finetune takes one of text and choices");
  }
  return CheckOtherFolder(options.model_dir, options.trainer.out_dir);
}

absl::Status CheckVocabulary(const Tokenizer& tokenizer, const ModelConfig& config) {
  if (tokenizer.vocab_size() <= config.vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", tokenizer.vocab_size(),
                                                 " tokens, the model ", config.vocab_size));
}

absl::StatusOr<std::unique_ptr<ExampleSource>> OpenExamples(const FinetuneOptions& options,
                                                            const Tokenizer& tokenizer) {
  if (!options.choices.empty()) {
    return OpenChoiceExamples(options.choices, options.window, options.trainer.batch, options.seed,
                              tokenizer);
  }
  return OpenTextCorpus(options.text, options.window, options.seed, tokenizer,
                        options.trainer.num_threads);
}

absl::Status Train(const FinetuneOptions& options, ExampleSource* examples, const Trainable& model,
                   const volatile bool* stop) {
  Trainer trainer(options.trainer, examples, &model);
  if (options.resume) RETURN_IF_ERROR(trainer.Resume());
  return trainer.Run(stop);
}

}  // namespace

absl::Status Finetune(const FinetuneOptions& options, const volatile bool* stop) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(options.model_dir));
  ASSIGN_OR_RETURN(ReferenceModel model, LoadModelFolder(options.model_dir));
  MoveTo(options.device, &model.parameters);
  RETURN_IF_ERROR(CheckVocabulary(*tokenizer, model.config));
  ASSIGN_OR_RETURN(const std::unique_ptr<ExampleSource> examples,
                   OpenExamples(options, *tokenizer));
  RETURN_IF_ERROR(CopyTokenizer(options.model_dir, options.trainer.out_dir));
  const at::ScalarType matrix_type = TrainingMatrixType(options.device, options.use_bfloat16);
  spdlog::info("{} true and {} null experts, {} picks per token, matrices in {}",
               model.config.num_experts, model.config.num_null_experts,
               model.config.experts_per_token,
               matrix_type == at::kBFloat16 ? "bfloat16" : "float32");
  if (!options.lora.has_value()) {
    return Train(options, examples.get(), MixtralTraining(std::move(model), matrix_type), stop);
  }
  LoraOptions lora = *options.lora;
  lora.model_dir = options.model_dir;
  lora.seed = options.seed;
  const LoraTraining training(std::move(model), lora, matrix_type);
  if (options.resume) RETURN_IF_ERROR(training.CheckSaved(options.trainer.out_dir));
  return Train(options, examples.get(), training, stop);
}

}  // namespace adamoe
