// Two models of the same weights, fed the same tokens: how far their answers are apart. The second
// is the oracle: it says which tokens come next, so that one early difference does not make
// everything after it incomparable. Not thread-safe.
#ifndef ADAMOE_TESTS_GPU_PARITY_H_
#define ADAMOE_TESTS_GPU_PARITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/model/model.h"

namespace adamoe {

struct ParityPlan {
  std::vector<std::vector<int32_t>> prompts;  // one sequence each
  int num_decode_steps = 16;                  // all sequences together, greedily
  int32_t prefill_chunk = 0;                  // tokens of a prompt per step; 0: all
  float null_bias = 0.0f;                     // of every second sequence
  uint32_t max_experts = 0;                   // of every third sequence
};

struct ParityReport {
  static constexpr double kFar = 0.15;

  int64_t num_positions = 0;
  int64_t num_routings = 0;             // positions x layers
  int64_t num_routing_differences = 0;  // of executed, null or dropped slots
  int64_t num_positions_compared = 0;   // whose sequence was routed alike in every layer so far
  // Of those compared, where a logit is off by more than kFar of their spread: an expert was
  // another of a tie, which counts of slots do not show where there are no null experts.
  int64_t num_far_positions = 0;
  int64_t num_argmax_differences = 0;  // of the rest, beyond `tolerance` of a tie
  double median_error = 0.0;           // of logits over those compared, as a share of their spread
  double max_error = 0.0;              // at positions that are not far

  std::string ToString() const;
};

// `tolerance`: two logits nearer than this share of the spread of a row are a tie.
ParityReport CompareModels(Model& model, Model& oracle, const ParityPlan& plan, double tolerance);

// `length` ids below `vocab_size` that depend on `seed`.
std::vector<int32_t> SeededTokens(int32_t length, uint64_t seed, int32_t vocab_size);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_PARITY_H_
