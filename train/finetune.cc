#include "train/finetune.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "server/base/status_macros.h"
#include "train/device.h"
#include "train/mixtral_training.h"
#include "train/model_folder.h"
#include "train/training_examples.h"

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

absl::Status Train(const FinetuneOptions& options, ExampleSource* examples, const Trainable& model,
                   const volatile bool* stop) {
  Trainer trainer(options.trainer, examples, &model);
  if (options.resume) RETURN_IF_ERROR(trainer.Resume());
  return trainer.Run(stop);
}

}  // namespace

absl::Status Finetune(const FinetuneOptions& options, const volatile bool* stop) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(ReferenceModel model, LoadModelFolder(options.model_dir));
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizerOf(options.model_dir, model.config));
  MoveTo(options.device, &model.parameters);
  ASSIGN_OR_RETURN(const std::unique_ptr<ExampleSource> examples,
                   OpenExamples({options.text, options.choices}, options.window, options.seed,
                                options.trainer, *tokenizer));
  RETURN_IF_ERROR(CopyTokenizer(options.model_dir, options.trainer.out_dir));
  const at::ScalarType matrix_type = TrainingMatrixType(options.device, options.use_bfloat16);
  spdlog::info("{} true and {} null experts, {} picks per token, matrices in {}",
               model.config.num_experts, model.config.num_null_experts,
               model.config.experts_per_token, DTypeName(matrix_type));
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
