#include "server/model/adamoe_block.h"

#include <algorithm>

#include "server/model/tensors.h"

namespace adamoe {

AdamoeBlock::AdamoeBlock(const ModelConfig& config, const MixtralLayerWeights& weights)
    : router_(ToFloat32(weights.gate)),
      hidden_(config.hidden_size),
      num_null_experts_(config.num_null_experts),
      experts_per_token_(config.experts_per_token) {
  if (num_null_experts_ > 0) {
    const std::vector<float> null_rows = ToFloat32(weights.gate2);
    router_.insert(router_.end(), null_rows.begin(), null_rows.end());
  }
  for (const auto& expert : weights.experts) {
    experts_.push_back({AsMatrix(expert.w1), AsMatrix(expert.w2), AsMatrix(expert.w3)});
  }
}

void AdamoeBlock::Forward(const StepInput& step, const float* x, Ops& ops, Activations& activations,
                          float* out) const {
  const int32_t num_tokens = step.num_tokens();
  const int32_t num_experts = static_cast<int32_t>(experts_.size());
  const Matrix router{router_.data(), DType::kFloat32, num_experts + num_null_experts_, hidden_};
  const RouterParams params{.num_experts = num_experts,
                            .num_null_experts = num_null_experts_,
                            .experts_per_token = experts_per_token_,
                            .null_bias = step.batch().null_bias.data(),
                            .max_experts = step.batch().max_experts.data()};
  float* logits = Grown(activations.router_logits, num_tokens * router.rows);
  uint8_t* executed = Grown(activations.executed, num_tokens);
  std::fill_n(executed, num_tokens, uint8_t{0});

  ops.LinearFloat32(router, x, num_tokens, logits);
  ops.Route(logits, num_tokens, params, &activations.routing);
  ops.Experts(experts_.data(), activations.routing, x, num_tokens, out, executed);
}

}  // namespace adamoe
