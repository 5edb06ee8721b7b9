// The shapes that are measured.
#ifndef ADAMOE_TESTS_GPU_BENCH_SHAPES_H_
#define ADAMOE_TESTS_GPU_BENCH_SHAPES_H_

#include <cstdint>

#include "server/weights/model_config.h"

namespace adamoe {

// Mixtral-8x7B (arXiv 2401.04088) with `num_null_experts` and k = `experts_per_token`.
inline ModelConfig Mixtral8x7B(int32_t num_null_experts, int32_t experts_per_token) {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.num_experts = 8;
  config.num_null_experts = num_null_experts;
  config.experts_per_token = experts_per_token;
  config.vocab_size = 32000;
  config.max_position_embeddings = 32768;
  config.rope_theta = 1e6f;
  return config;
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_BENCH_SHAPES_H_
