#include "server/model/dimensions.h"

#include <algorithm>

namespace adamoe {

ModelDimensions DimensionsOf(const ModelConfig& config, int32_t num_kv_blocks,
                             int32_t kv_block_size) {
  const int32_t capacity = num_kv_blocks * kv_block_size;
  const uint64_t hidden = config.hidden_size;
  const uint64_t layers = config.num_layers;
  const uint64_t query_width = config.num_heads * config.head_dim;
  const uint64_t key_width = config.num_kv_heads * config.head_dim;
  const uint64_t router_rows = config.num_experts + config.num_null_experts;
  return {.vocab_size = config.vocab_size,
          .num_layers = config.num_layers,
          .num_experts = config.num_experts,
          .num_null_experts = config.num_null_experts,
          .experts_per_token = config.experts_per_token,
          .max_context_tokens = std::min(config.max_position_embeddings, capacity),
          .num_kv_blocks = num_kv_blocks,
          .kv_block_size = kv_block_size,
          .sliding_window = config.sliding_window,
          .flops_per_slot = 2 * 3 * hidden * config.intermediate_size,
          .projection_flops = layers * 2 * hidden * (2 * query_width + 2 * key_width),
          .attention_flops_per_key = layers * 2 * 2 * query_width,
          .router_flops = layers * 2 * hidden * router_rows,
          .lm_head_flops = 2 * hidden * config.vocab_size};
}

}  // namespace adamoe
