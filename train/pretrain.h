// Trains a model from scratch on text: AdamW, cosine schedule, AdaMoE's null-expert balance loss.
//
// A batch is cut into shares, and a thread computes the gradient of a share alone, so threads meet
// only twice a step. Not thread-safe.
#ifndef ADAMOE_TRAIN_PRETRAIN_H_
#define ADAMOE_TRAIN_PRETRAIN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/weights/model_config.h"

namespace adamoe {

struct PretrainOptions {
  ModelConfig config;
  // "PATH" or "PATH:WEIGHT": text files, see text_files.h and TokenSource::weight.
  std::vector<std::string> text;
  std::string tokenizer_dir;
  std::string out_dir;
  bool resume = false;

  int64_t window = 256;  // tokens
  int64_t batch = 16;    // windows per step, a multiple of share
  int64_t share = 8;     // windows whose gradient is computed at once, by one thread
  int num_threads = 1;
  bool use_bfloat16 = true;  // where the processor has AVX-512-BF16
  uint64_t seed = 1;

  // The end of training, by whichever is given; the schedule runs to it. Seconds count over resumed
  // runs together.
  int64_t max_steps = 0;
  double max_seconds = 0;
  double learning_rate = 1e-3;
  double min_learning_rate_ratio = 0.05;
  double warmup = 0.03;  // share of the whole training
  double max_gradient_norm = 1.0;
  double weight_decay = 0.1;
  // Weight of the balance loss, from the first to the last step in equal ratios.
  double first_alpha = 0.02;
  double last_alpha = 0.0001;

  int64_t checkpoint_steps = 500;
  int64_t log_steps = 20;
};

// Runs to the end, or until *stop is set (by a signal handler); either way saves a checkpoint.
// `out_dir` then is a model folder that also holds what --resume needs.
absl::Status Pretrain(const PretrainOptions& options, const volatile bool* stop);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_PRETRAIN_H_
