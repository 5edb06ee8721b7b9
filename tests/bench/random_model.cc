#include "tests/bench/random_model.h"

#include <cmath>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "server/base/dtype.h"

namespace adamoe {
namespace {

// Hands out tensors of values drawn from a table: a generator per element would take longer than
// the measurement.
class RandomTensors {
 public:
  RandomTensors() {
    std::normal_distribution<float> normal;
    std::mt19937 random(1);
    for (float& value : table_) value = normal(random);
  }

  TensorView Make(std::vector<int64_t> shape, float scale) {
    size_t size = 1;
    for (int64_t extent : shape) size *= static_cast<size_t>(extent);
    auto values = std::make_unique<uint16_t[]>(size);
    std::vector<uint16_t> scaled;
    for (float value : table_) scaled.push_back(Bf16FromFloat(value * scale));
    for (size_t i = 0; i < size; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      values[i] = scaled[state_ >> 52];
    }
    owned_->push_back(std::move(values));
    return {owned_->back().get(), DType::kBFloat16, std::move(shape)};
  }

  // Keeps the scale of its input.
  TensorView Projection(int64_t rows, int64_t cols) {
    return Make({rows, cols}, 1.0f / std::sqrt(static_cast<float>(cols)));
  }

  TensorView Ones(int64_t size) {
    auto values = std::make_unique<uint16_t[]>(size);
    for (int64_t i = 0; i < size; ++i) values[i] = Bf16FromFloat(1.0f);
    owned_->push_back(std::move(values));
    return {owned_->back().get(), DType::kBFloat16, {size}};
  }

  std::shared_ptr<const void> owner() const { return owned_; }

 private:
  using Arrays = std::vector<std::unique_ptr<uint16_t[]>>;

  float table_[4096];
  uint64_t state_ = 1;
  std::shared_ptr<Arrays> owned_ = std::make_shared<Arrays>();
};

MixtralLayerWeights RandomLayer(const ModelConfig& config, RandomTensors& random) {
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  const int64_t q_size = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_size = int64_t{config.num_kv_heads} * config.head_dim;
  MixtralLayerWeights layer;
  layer.input_norm = random.Ones(hidden);
  layer.post_attn_norm = random.Ones(hidden);
  layer.q_proj = random.Projection(q_size, hidden);
  layer.k_proj = random.Projection(kv_size, hidden);
  layer.v_proj = random.Projection(kv_size, hidden);
  layer.o_proj = random.Projection(hidden, q_size);
  layer.gate = random.Projection(config.num_experts, hidden);
  if (config.num_null_experts > 0) {
    layer.gate2 = random.Projection(config.num_null_experts, hidden);
  }
  for (int32_t e = 0; e < config.num_experts; ++e) {
    layer.experts.push_back({random.Projection(intermediate, hidden),
                             random.Projection(hidden, intermediate),
                             random.Projection(intermediate, hidden)});
  }
  return layer;
}

}  // namespace

ModelConfig SmallMixtralConfig(int32_t m, int32_t k) {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.hidden_size = 1024;
  config.intermediate_size = 3584;
  config.num_layers = 8;
  config.num_heads = 16;
  config.num_kv_heads = 4;
  config.head_dim = 64;
  config.num_experts = 8;
  config.num_null_experts = m;
  config.experts_per_token = k;
  config.vocab_size = 32000;
  config.max_position_embeddings = 32768;
  config.rope_theta = 1e6f;
  return config;
}

MixtralWeights RandomWeights(const ModelConfig& config) {
  RandomTensors random;
  MixtralWeights weights;
  weights.config = config;
  weights.embed_tokens = random.Make({config.vocab_size, config.hidden_size}, 1.0f);
  weights.norm = random.Ones(config.hidden_size);
  weights.lm_head = random.Projection(config.vocab_size, config.hidden_size);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back(RandomLayer(config, random));
  }
  weights.owner = random.owner();
  return weights;
}

}  // namespace adamoe
