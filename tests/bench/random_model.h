// A Mixtral or AdaMoE model of random bfloat16 weights in memory, for measuring. The router's rows
// are random too, so experts are picked about evenly.
#ifndef ADAMOE_TESTS_BENCH_RANDOM_MODEL_H_
#define ADAMOE_TESTS_BENCH_RANDOM_MODEL_H_

#include <cstdint>

#include "server/weights/mixtral_weights.h"
#include "server/weights/model_config.h"

namespace adamoe {

// Mixtral's proportions at 0.8 billion parameters: hidden 1024, intermediate 3584, 8 layers, 16
// heads over 4, 8 experts, vocabulary 32000. `m` null experts, `k` picks.
ModelConfig SmallMixtralConfig(int32_t m, int32_t k);

// Weights for it; all tensors belong to the result's owner.
MixtralWeights RandomWeights(const ModelConfig& config);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_BENCH_RANDOM_MODEL_H_
