// What evaluation asks of a model, wherever it runs: the log-probabilities of given tokens, and
// what computing them cost.
#ifndef ADAMOE_TRAIN_SCORER_H_
#define ADAMOE_TRAIN_SCORER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/weights/model_config.h"

namespace adamoe {

// Multiplications of the linear layers, per token.
struct ModelCost {
  double fixed_products = 0;            // of those that every token runs; routers not counted
  std::vector<double> expert_products;  // [routers]: of one true expert
};

// One router per layer; attention's linear layers and the head are fixed.
ModelCost MixtralCost(const ModelConfig& config);

// What one sequence gave.
struct TokenScores {
  std::vector<double> logprobs;  // of every token but the first, natural
  int64_t num_positions = 0;     // run: all tokens but the last
  double true_experts = 0;       // run at these positions, summed over routers
  double expert_products = 0;    // multiplications of these experts
};

// Thread-safe.
class Scorer {
 public:
  virtual ~Scorer() = default;

  // Every token but the first, given those before it from the first on. REQUIRES: 2 to
  // max_context() + 1 tokens, in the vocabulary.
  virtual absl::StatusOr<TokenScores> Score(absl::Span<const int32_t> tokens) const = 0;

  // Positions that a sequence may have run.
  virtual int64_t max_context() const = 0;
  // Calls that are worth making at the same time.
  virtual int num_threads() const = 0;
  virtual const ModelCost& cost() const = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_SCORER_H_
