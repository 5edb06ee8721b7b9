// One layer's Mixture of Experts with null experts (AdaMoE, arXiv 2406.13233): a token runs between
// none and min(k, n) of the n true experts, as the router picks. m = 0 is plain Mixtral. Immutable.
#ifndef ADAMOE_SERVER_MODEL_ADAMOE_BLOCK_H_
#define ADAMOE_SERVER_MODEL_ADAMOE_BLOCK_H_

#include <cstdint>
#include <vector>

#include "server/kernels/ops.h"
#include "server/model/activations.h"
#include "server/model/step_input.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/model_config.h"

namespace adamoe {

class AdamoeBlock {
 public:
  // Refers to the memory of `weights`, but for the router, which it copies to float32.
  AdamoeBlock(const ModelConfig& config, const MixtralLayerWeights& weights);

  // out = the weighted sum of each token's true experts, 0 for a token whose picks are all null.
  // Leaves its counts in activations.routing and activations.executed. x, out: [num_tokens,
  // hidden].
  void Forward(const StepInput& step, const float* x, Ops& ops, Activations& activations,
               float* out) const;

 private:
  std::vector<float> router_;  // [n + m, hidden]: gate, then gate2
  std::vector<ExpertWeights> experts_;
  int64_t hidden_;
  int32_t num_null_experts_;
  int32_t experts_per_token_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_ADAMOE_BLOCK_H_
