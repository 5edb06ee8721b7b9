// The routers and LoRA experts of a Mo-LoRA model (molora_model.h) over a frozen dense base, as
// something a Trainer trains.
#ifndef ADAMOE_TRAIN_MOLORA_TRAINING_H_
#define ADAMOE_TRAIN_MOLORA_TRAINING_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "train/molora_folder.h"
#include "train/trainer.h"

namespace adamoe {

class MoLoraTraining final : public Trainable {
 public:
  // base_model: what the adapter folder names as its base. model.base: never changed; multiplied in
  // `matrix_type`, as A and B are. model.molora: float32, changed in place by training.
  MoLoraTraining(MoLoraModel model, std::string base_model, at::ScalarType matrix_type);

  NamedTensors Parameters() const override { return MoLoraTensors(molora_); }
  int64_t num_experts() const override { return molora_.config.num_experts; }
  TrainingPass BeginPass() const override;
  // An adapter folder, see molora_folder.h.
  absl::Status Save(const std::string& dir) const override;

 private:
  const ReferenceModel base_;  // matrices in matrix_type_
  const MoLora molora_;
  const std::string base_model_;
  const at::ScalarType matrix_type_;
};

struct MoLoraTrainingOptions {
  std::string model_dir;  // see LoadDenseModel; with the tokenizer
  MoLoraConfig molora;

  // One of the two.
  std::vector<std::string> text;     // see OpenTextCorpus
  std::vector<std::string> choices;  // see OpenChoiceExamples

  int64_t window = 256;  // tokens
  at::Device device = at::kCPU;
  bool use_bfloat16 = true;  // see TrainingMatrixType
  uint64_t seed = 1;
  bool resume = false;  // from the checkpoint in trainer.out_dir
  TrainerOptions trainer;
};

// Runs to the end, or until *stop is set (by a signal handler); either way saves a checkpoint.
// trainer.out_dir, made when missing, then is an adapter folder that also holds what resuming
// needs. Errors as of CheckMoLoraConfig, CheckTrainerOptions, LoadDenseModel, OpenTextCorpus,
// OpenChoiceExamples and Trainer::Run; INVALID_ARGUMENT for a resumed run of another MoLoraConfig
// and when both folders are one.
absl::Status TrainMoLora(const MoLoraTrainingOptions& options, const volatile bool* stop);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MOLORA_TRAINING_H_
