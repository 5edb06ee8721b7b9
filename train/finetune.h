// Trains a model that a folder holds further. Thread-safe for different folders.
#ifndef ADAMOE_TRAIN_FINETUNE_H_
#define ADAMOE_TRAIN_FINETUNE_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "train/lora_training.h"
#include "train/trainer.h"

namespace adamoe {

struct FinetuneOptions {
  std::string model_dir;
  // One of the two.
  std::vector<std::string> text;     // see OpenTextCorpus
  std::vector<std::string> choices;  // see OpenChoiceExamples

  int64_t window = 256;  // tokens
  at::Device device = at::kCPU;
  bool use_bfloat16 = true;         // see TrainingMatrixType
  std::optional<LoraOptions> lora;  // unset: every parameter is trained. model_dir, seed: as here
  uint64_t seed = 1;
  bool resume = false;  // from the checkpoint in trainer.out_dir
  TrainerOptions trainer;
};

// Runs to the end, or until *stop is set (by a signal handler); either way saves a checkpoint.
// trainer.out_dir, made when missing, then is a model folder, or LoRA's adapter folder, that also
// holds what resuming needs. Errors as of CheckTrainerOptions, CheckLoraOptions, LoadMixtral,
// OpenTextCorpus, OpenChoiceExamples and Trainer::Run; INVALID_ARGUMENT when both folders are one.
absl::Status Finetune(const FinetuneOptions& options, const volatile bool* stop);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_FINETUNE_H_
