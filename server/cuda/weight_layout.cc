#include "server/cuda/weight_layout.h"

namespace adamoe::cuda {
namespace {

constexpr int64_t kBf16Bytes = 2;
constexpr int64_t kFloatBytes = 4;

// Sizes in elements.
struct Sizes {
  explicit Sizes(const ModelConfig& c)
      : hidden(c.hidden_size),
        table(int64_t{c.vocab_size} * c.hidden_size),
        queries(int64_t{c.num_heads} * c.head_dim * c.hidden_size),
        keys(int64_t{c.num_kv_heads} * c.head_dim * c.hidden_size),
        router(int64_t{c.num_experts + c.num_null_experts} * c.hidden_size),
        expert_matrix(int64_t{c.intermediate_size} * c.hidden_size) {}

  int64_t hidden;
  int64_t table;
  int64_t queries;
  int64_t keys;  // of values too
  int64_t router;
  int64_t expert_matrix;
};

LayerLayout LayOutLayer(const Sizes& sizes, int64_t num_experts, Layout& layout) {
  LayerLayout layer;
  layer.input_norm = layout.Add(sizes.hidden * kFloatBytes);
  layer.qkv_proj = layout.Add((sizes.queries + 2 * sizes.keys) * kBf16Bytes);
  layer.o_proj = layout.Add(sizes.queries * kBf16Bytes);
  layer.post_attn_norm = layout.Add(sizes.hidden * kFloatBytes);
  layer.router = layout.Add(sizes.router * kFloatBytes);
  layer.w1 = layout.Add(num_experts * sizes.expert_matrix * kBf16Bytes);
  layer.w3 = layout.Add(num_experts * sizes.expert_matrix * kBf16Bytes);
  layer.w2 = layout.Add(num_experts * sizes.expert_matrix * kBf16Bytes);
  return layer;
}

void AddLayerCopies(const MixtralLayerWeights& weights, const LayerLayout& layout,
                    std::vector<WeightCopy>& copies) {
  // Tensors side by side, the first at `offset`.
  const auto stack = [&copies](int64_t offset, DType dtype,
                               std::initializer_list<const TensorView*> tensors) {
    for (const TensorView* tensor : tensors) {
      copies.push_back({tensor, offset, dtype});
      offset += tensor->num_elements() * static_cast<int64_t>(SizeOf(dtype));
    }
    return offset;
  };
  stack(layout.input_norm, DType::kFloat32, {&weights.input_norm});
  stack(layout.qkv_proj, DType::kBFloat16, {&weights.q_proj, &weights.k_proj, &weights.v_proj});
  stack(layout.o_proj, DType::kBFloat16, {&weights.o_proj});
  stack(layout.post_attn_norm, DType::kFloat32, {&weights.post_attn_norm});
  const int64_t null_rows = stack(layout.router, DType::kFloat32, {&weights.gate});
  if (weights.gate2.data != nullptr) stack(null_rows, DType::kFloat32, {&weights.gate2});
  int64_t w1 = layout.w1;
  int64_t w3 = layout.w3;
  int64_t w2 = layout.w2;
  for (const MixtralLayerWeights::Expert& expert : weights.experts) {
    w1 = stack(w1, DType::kBFloat16, {&expert.w1});
    w3 = stack(w3, DType::kBFloat16, {&expert.w3});
    w2 = stack(w2, DType::kBFloat16, {&expert.w2});
  }
}

}  // namespace

WeightLayout LayOutWeights(const ModelConfig& config) {
  const Sizes sizes(config);
  Layout layout;
  WeightLayout weights;
  weights.embed_tokens = layout.Add(sizes.table * kBf16Bytes);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back(LayOutLayer(sizes, config.num_experts, layout));
  }
  weights.norm = layout.Add(sizes.hidden * kFloatBytes);
  weights.lm_head =
      config.tie_word_embeddings ? weights.embed_tokens : layout.Add(sizes.table * kBf16Bytes);
  weights.num_bytes = layout.num_bytes();
  return weights;
}

std::vector<WeightCopy> WeightCopies(const MixtralWeights& weights, const WeightLayout& layout) {
  std::vector<WeightCopy> copies;
  copies.push_back({&weights.embed_tokens, layout.embed_tokens, DType::kBFloat16});
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    AddLayerCopies(weights.layers[i], layout.layers[i], copies);
  }
  copies.push_back({&weights.norm, layout.norm, DType::kFloat32});
  if (layout.lm_head != layout.embed_tokens) {
    copies.push_back({&weights.lm_head, layout.lm_head, DType::kBFloat16});
  }
  return copies;
}

}  // namespace adamoe::cuda
