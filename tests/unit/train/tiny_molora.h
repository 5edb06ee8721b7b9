// A small dense model and LoRA experts for it.
#ifndef ADAMOE_TESTS_UNIT_TRAIN_TINY_MOLORA_H_
#define ADAMOE_TESTS_UNIT_TRAIN_TINY_MOLORA_H_

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>

#include "tests/unit/train/tiny_model.h"
#include "train/mixtral_reference.h"
#include "train/molora_model.h"

namespace adamoe {

inline ModelConfig DenseConfig() {
  ModelConfig config = TinyConfig();
  config.num_experts = 1;
  config.num_null_experts = 0;
  config.experts_per_token = 1;
  return config;
}

inline ReferenceModel DenseModel(uint64_t seed) {
  return {DenseConfig(), LivelyParameters(DenseConfig(), seed)};
}

inline MoLoraConfig SmallConfig() {
  return {.num_experts = 4, .num_null_experts = 3, .experts_per_token = 3, .rank = 2, .alpha = 3};
}

// Calls `change` for the router, A and B of every linear layer.
inline void ForEachTensor(MoLora* molora,
                          const std::function<void(int factor, at::Tensor*)>& change) {
  for (MoLoraLayer& layer : molora->layers) {
    for (RoutedLora& lora : layer) {
      change(0, &lora.router);
      change(1, &lora.a);
      change(2, &lora.b);
    }
  }
}

// Every tensor matters: routers decide clearly and B is not zero.
inline MoLora LivelyMoLora(const ModelConfig& base, const MoLoraConfig& config, uint64_t seed) {
  MoLora molora = RandomMoLora(base, config, seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.5);
  ForEachTensor(&molora, [&](int factor, at::Tensor* tensor) {
    if (factor == 0) tensor->mul_(20);
    if (factor != 2) return;
    float* const values = tensor->mutable_data_ptr<float>();
    std::generate_n(values, tensor->numel(), [&] { return normal(random); });
  });
  return molora;
}

inline at::Tensor Ids(int64_t batch, int64_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  at::Tensor ids = at::empty({batch, length}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i) {
    ids.mutable_data_ptr<int64_t>()[i] =
        static_cast<int64_t>(random() % static_cast<uint64_t>(DenseConfig().vocab_size));
  }
  return ids;
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_TRAIN_TINY_MOLORA_H_
