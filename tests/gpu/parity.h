// Two models of the same weights, fed the same tokens: how far their answers are apart. The second
// is the oracle: it says which tokens come next, so that one early difference does not make
// everything after it incomparable.
//
// Sums in another order round otherwise, and where two experts are nearly equally likely the two
// models may pick different ones. This is proven place by place: where their answers differ, the
// oracle runs again with the other expert of a tie at that very token, and has to answer as the
// model does. What no tie explains is a fault. Not thread-safe.
#ifndef ADAMOE_TESTS_GPU_PARITY_H_
#define ADAMOE_TESTS_GPU_PARITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/model/model.h"
#include "tests/gpu/routing_probe.h"

namespace adamoe {

struct ParityPlan {
  std::vector<std::vector<int32_t>> prompts;  // one sequence each
  int num_decode_steps = 16;                  // all sequences together, greedily
  int32_t prefill_chunk = 0;                  // tokens of a prompt per step; 0: all
  float null_bias = 0.0f;                     // of every second sequence
  uint32_t max_experts = 0;                   // of every third sequence
};

struct ParityReport {
  // Of the spread of a row of logits: what is off by more has another cause than rounding.
  static constexpr double kFar = 0.1;

  int64_t num_positions = 0;
  int64_t num_routings = 0;  // positions x layers
  // Where the oracle answers as the model does once it picks the other expert.
  std::vector<RouterTie> ties;
  // Sequences with a position where slots or logits are others and no tie says why; what comes
  // after it is not compared.
  int64_t num_unexplained = 0;
  int64_t num_positions_compared = 0;
  int64_t num_argmax_differences = 0;  // of those compared, beyond `tolerance`
  double median_error = 0.0;           // of logits over those compared, as a share of their spread
  double max_error = 0.0;

  std::string ToString() const;
};

// `tolerance`: two logits nearer than this share of the spread of a row are a tie. `probe`: in the
// oracle's operations; null: no difference is explained.
ParityReport CompareModels(Model& model, Model& oracle, const ParityPlan& plan, double tolerance,
                           RoutingProbe* probe = nullptr);

// `length` ids below `vocab_size` that depend on `seed`.
std::vector<int32_t> SeededTokens(int32_t length, uint64_t seed, int32_t vocab_size);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_PARITY_H_
