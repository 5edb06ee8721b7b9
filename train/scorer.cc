#include "train/scorer.h"

namespace adamoe {

ModelCost MixtralCost(const ModelConfig& config) {
  const double hidden = config.hidden_size;
  const double q_rows = static_cast<double>(config.num_heads) * config.head_dim;
  const double kv_rows = static_cast<double>(config.num_kv_heads) * config.head_dim;
  ModelCost cost;
  cost.fixed_products =
      config.num_layers * 2.0 * hidden * (q_rows + kv_rows) + config.vocab_size * hidden;
  cost.expert_products.assign(config.num_layers, 3.0 * hidden * config.intermediate_size);
  return cost;
}

}  // namespace adamoe
