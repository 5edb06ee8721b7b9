#include "train/mixtral_parameters.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <optional>

namespace adamoe {
namespace {

constexpr double kDeviation = 0.02;

}  // namespace

MixtralParameters RandomParameters(const ModelConfig& config, uint64_t seed) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto normal = [&generator](at::IntArrayRef shape, double deviation) {
    return at::randn(shape, generator, at::kFloat) * deviation;
  };
  const double residual_deviation = kDeviation / std::sqrt(2.0 * config.num_layers);
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t q_rows = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_rows = int64_t{config.num_kv_heads} * config.head_dim;
  MixtralParameters parameters;
  parameters.embed_tokens = normal({config.vocab_size, hidden}, kDeviation);
  parameters.norm = at::ones({hidden});
  if (!config.tie_word_embeddings) {
    parameters.lm_head = normal({config.vocab_size, hidden}, kDeviation);
  }
  for (int32_t i = 0; i < config.num_layers; ++i) {
    MixtralLayerParameters layer;
    layer.input_norm = at::ones({hidden});
    layer.post_attn_norm = at::ones({hidden});
    layer.qkv_proj = normal({q_rows + 2 * kv_rows, hidden}, kDeviation);
    layer.o_proj = normal({hidden, q_rows}, residual_deviation);
    layer.gate = normal({config.num_experts, hidden}, kDeviation);
    layer.gate2 = normal({config.num_null_experts, hidden}, kDeviation);
    layer.w13 = normal({config.num_experts, 2 * inner, hidden}, kDeviation);
    layer.w2 = normal({config.num_experts, hidden, inner}, residual_deviation);
    parameters.layers.push_back(std::move(layer));
  }
  return parameters;
}

std::vector<at::Tensor*> AllTensors(MixtralParameters* parameters) {
  std::vector<at::Tensor*> all = {&parameters->embed_tokens, &parameters->norm};
  if (parameters->lm_head.defined()) all.push_back(&parameters->lm_head);
  for (MixtralLayerParameters& layer : parameters->layers) {
    all.insert(all.end(), {&layer.input_norm, &layer.post_attn_norm, &layer.qkv_proj, &layer.o_proj,
                           &layer.gate, &layer.gate2, &layer.w13, &layer.w2});
  }
  return all;
}

MixtralParameters ComputeCopy(const MixtralParameters& parameters, at::ScalarType matmul_dtype) {
  MixtralParameters copy = parameters;
  const auto make_leaf = [](at::Tensor* tensor, at::ScalarType dtype) {
    *tensor = tensor->detach().to(dtype, /*non_blocking=*/false, /*copy=*/true);
    tensor->set_requires_grad(true);
  };
  for (at::Tensor* tensor : AllTensors(&copy)) {
    bool is_matrix = copy.lm_head.defined() && tensor == &copy.lm_head;
    for (MixtralLayerParameters& layer : copy.layers) {
      is_matrix |= tensor == &layer.qkv_proj || tensor == &layer.o_proj || tensor == &layer.w13 ||
                   tensor == &layer.w2;
    }
    make_leaf(tensor, is_matrix ? matmul_dtype : tensor->scalar_type());
  }
  return copy;
}

}  // namespace adamoe
