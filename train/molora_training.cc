#include "train/molora_training.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "train/dense_model.h"
#include "train/device.h"
#include "train/mixtral_training.h"
#include "train/training_examples.h"

namespace adamoe {
namespace {

ReferenceModel Frozen(const ReferenceModel& base, at::ScalarType matrix_type) {
  ReferenceModel frozen{base.config, ComputeCopy(base.parameters, matrix_type)};
  for (at::Tensor* tensor : AllTensors(&frozen.parameters)) tensor->set_requires_grad(false);
  return frozen;
}

absl::Status CheckResumed(const MoLoraTrainingOptions& options) {
  ASSIGN_OR_RETURN(const MoLoraConfig saved, ReadMoLoraConfig(options.trainer.out_dir));
  if (saved == options.molora) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      options.trainer.out_dir,
      ": resuming takes the num_experts, num_null_experts, experts_per_token, r and lora_alpha of "
      "its adapter_config.json, expected the same here"));
}

}  // namespace

MoLoraTraining::MoLoraTraining(MoLoraModel model, std::string base_model,
                               at::ScalarType matrix_type)
    : base_(Frozen(model.base, matrix_type)),
      molora_(std::move(model.molora)),
      base_model_(std::move(base_model)),
      matrix_type_(matrix_type) {}

TrainingPass MoLoraTraining::BeginPass() const {
  const auto copy = std::make_shared<MoLora>(ComputeCopy(molora_, matrix_type_));
  TrainingPass pass;
  for (const auto& [name, leaf] : MoLoraTensors(*copy)) pass.leaves.push_back(leaf);
  pass.forward = [this, copy](const at::Tensor& tokens) {
    return MoLoraForward(base_, *copy, tokens);
  };
  return pass;
}

absl::Status MoLoraTraining::Save(const std::string& dir) const {
  return WriteMoLora(dir, base_model_, molora_);
}

absl::Status TrainMoLora(const MoLoraTrainingOptions& options, const volatile bool* stop) {
  RETURN_IF_ERROR(CheckTrainerOptions(options.trainer));
  RETURN_IF_ERROR(CheckMoLoraConfig(options.molora));
  RETURN_IF_ERROR(CheckOtherFolder(options.model_dir, options.trainer.out_dir));
  ASSIGN_OR_RETURN(ReferenceModel base, LoadDenseModel(options.model_dir));
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizerOf(options.model_dir, base.config));
  ASSIGN_OR_RETURN(const std::unique_ptr<ExampleSource> examples,
                   OpenExamples({options.text, options.choices}, options.window, options.seed,
                                options.trainer, *tokenizer));
  if (options.resume) RETURN_IF_ERROR(CheckResumed(options));
  RETURN_IF_ERROR(MakeFolder(options.trainer.out_dir));
  const at::ScalarType matrix_type = TrainingMatrixType(options.device, options.use_bfloat16);
  spdlog::info("{} LoRA experts, {} null ones, {} picks per token, matrices in {}",
               options.molora.num_experts, options.molora.num_null_experts,
               options.molora.experts_per_token, DTypeName(matrix_type));
  MoLora molora = RandomMoLora(base.config, options.molora, options.seed);
  MoveTo(options.device, &base.parameters);
  MoveTo(options.device, &molora);
  const MoLoraTraining model({std::move(base), std::move(molora)}, options.model_dir, matrix_type);
  Trainer trainer(options.trainer, examples.get(), &model);
  if (options.resume) RETURN_IF_ERROR(trainer.Resume());
  return trainer.Run(stop);
}

}  // namespace adamoe
