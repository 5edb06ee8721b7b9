// Trains a Mixtral or AdaMoE model from scratch on text. Thread-safe for different folders.
#ifndef ADAMOE_TRAIN_PRETRAIN_H_
#define ADAMOE_TRAIN_PRETRAIN_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/weights/model_config.h"
#include "train/trainer.h"

namespace adamoe {

struct PretrainOptions {
  ModelConfig config;             // the vocabulary's part comes from the tokenizer
  std::vector<std::string> text;  // see OpenTextCorpus
  std::string tokenizer_dir;
  int64_t window = 256;  // tokens
  at::Device device = at::kCPU;
  bool use_bfloat16 = true;  // see TrainingMatrixType
  uint64_t seed = 1;
  bool resume = false;  // from the checkpoint in trainer.out_dir
  TrainerOptions trainer;
};

// Runs to the end, or until *stop is set (by a signal handler); either way saves a checkpoint.
// trainer.out_dir, made when missing, then is a model folder that also holds what resuming needs.
// Errors as of CheckTrainerOptions, OpenTextCorpus and Trainer::Run.
absl::Status Pretrain(const PretrainOptions& options, const volatile bool* stop);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_PRETRAIN_H_
