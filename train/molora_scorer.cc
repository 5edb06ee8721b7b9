#include "train/molora_scorer.h"

#include <cstdint>

namespace adamoe {

ModelCost MoLoraCost(const ModelConfig& base, const MoLoraConfig& config) {
  ModelCost cost;
  cost.fixed_products = static_cast<double>(base.vocab_size) * base.hidden_size;
  for (int32_t i = 0; i < base.num_layers; ++i) {
    for (const LinearShape& shape : MoLoraTargetShapes(base)) {
      cost.fixed_products += static_cast<double>(shape.in) * static_cast<double>(shape.out);
      cost.expert_products.push_back(config.rank * static_cast<double>(shape.in + shape.out));
    }
  }
  return cost;
}

ScoredModel ScoredModelOf(const MoLoraModel& model) {
  ScoredModel scored;
  scored.forward = [&model](const at::Tensor& tokens) { return model.Forward(tokens); };
  scored.num_experts = model.molora.config.num_experts;
  scored.max_context = model.base.config.max_position_embeddings;
  scored.cost = MoLoraCost(model.base.config, model.molora.config);
  return scored;
}

}  // namespace adamoe
