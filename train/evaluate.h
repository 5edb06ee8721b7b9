// How well a model predicts a text, and what that costs. Not thread-safe.
#ifndef ADAMOE_TRAIN_EVALUATE_H_
#define ADAMOE_TRAIN_EVALUATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/weights/model_config.h"
#include "train/model_folder.h"

namespace adamoe {

struct Evaluation {
  int64_t num_tokens = 0;  // predicted
  int64_t num_bytes = 0;   // of the text they spell
  double loss = 0;         // nats per token
  double perplexity = 0;
  double bits_per_byte = 0;
  double load = 0;  // true experts per token and layer
  // Multiplications of the experts, and of all linear layers of the model, over those of the same
  // model with `baseline_experts_per_token` true experts for every token.
  double expert_flops_ratio = 0;
  double model_flops_ratio = 0;
};

struct EvaluateOptions {
  std::string model_dir;
  std::string text;     // a file, see text_files.h
  int64_t context = 0;  // tokens a prediction may look back on; 0: max_position_embeddings
  int num_threads = 1;
  int32_t baseline_experts_per_token = 2;
};

// Each document is "<s>" and its text; every token but <s> is predicted once, in float32, from
// those before it in its window. Windows of `context` tokens follow each other without overlap.
absl::StatusOr<Evaluation> Evaluate(const EvaluateOptions& options);

// The part of Evaluate behind the tokenizer. documents: token ids of each, <s> first. num_bytes as
// in Evaluation. REQUIRES: context >= 1; ids in [0, vocab_size).
Evaluation EvaluateTokens(const ReferenceModel& model,
                          const std::vector<std::vector<int32_t>>& documents, int64_t num_bytes,
                          int64_t context, int num_threads, int32_t baseline_experts_per_token);

// As JSON, names as in Evaluation.
std::string ToJson(const Evaluation& evaluation);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_EVALUATE_H_
