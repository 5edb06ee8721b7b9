#include "tests/gpu/bench/random_weights.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "server/base/status_macros.h"
#include "server/cuda/weight_layout.h"
#include "server/kernels/cuda/random_fill.h"

namespace adamoe {
namespace {

class Filler {
 public:
  Filler(cuda::Gpu& gpu, std::byte* memory) : gpu_(gpu), memory_(memory) {}

  // [rows, inputs] of bfloat16.
  absl::Status Matrix(int64_t offset, int64_t rows, int64_t inputs) {
    const float scale = std::sqrt(3.0f / static_cast<float>(inputs));
    return cuda::CudaStatus("FillRandomBf16",
                            cuda::FillRandomBf16(reinterpret_cast<cuda::Bf16*>(memory_ + offset),
                                                 rows * inputs, scale, ++seed_, gpu_.stream()));
  }

  absl::Status Floats(int64_t offset, const std::vector<float>& values) {
    const auto num_bytes = static_cast<int64_t>(values.size() * sizeof(float));
    ASSIGN_OR_RETURN(std::byte* const pinned, gpu_.AllocatePinned(num_bytes));
    std::memcpy(pinned, values.data(), static_cast<size_t>(num_bytes));
    absl::Status status = gpu_.CopyToDevice(memory_ + offset, pinned, num_bytes);
    status.Update(gpu_.Synchronize());
    gpu_.FreePinned(pinned);
    return status;
  }

 private:
  cuda::Gpu& gpu_;
  std::byte* const memory_;
  uint64_t seed_ = 0;
};

}  // namespace

absl::Status FillRandomWeights(const ModelConfig& config, cuda::Gpu& gpu, std::byte* memory) {
  const cuda::WeightLayout layout = cuda::LayOutWeights(config);
  const int64_t hidden = config.hidden_size;
  const int64_t queries = int64_t{config.num_heads} * config.head_dim;
  const int64_t keys = int64_t{config.num_kv_heads} * config.head_dim;
  const int64_t experts_out = int64_t{config.num_experts} * config.intermediate_size;
  const std::vector<float> ones(hidden, 1.0f);
  std::vector<float> router((config.num_experts + config.num_null_experts) * hidden);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 1.0f / std::sqrt(static_cast<float>(hidden)));
  Filler filler(gpu, memory);
  RETURN_IF_ERROR(filler.Matrix(layout.embed_tokens, config.vocab_size, hidden));
  for (const cuda::LayerLayout& layer : layout.layers) {
    for (float& weight : router) weight = normal(random);
    RETURN_IF_ERROR(filler.Floats(layer.input_norm, ones));
    RETURN_IF_ERROR(filler.Floats(layer.post_attn_norm, ones));
    RETURN_IF_ERROR(filler.Floats(layer.router, router));
    RETURN_IF_ERROR(filler.Matrix(layer.qkv_proj, queries + 2 * keys, hidden));
    RETURN_IF_ERROR(filler.Matrix(layer.o_proj, hidden, queries));
    RETURN_IF_ERROR(filler.Matrix(layer.w1, experts_out, hidden));
    RETURN_IF_ERROR(filler.Matrix(layer.w3, experts_out, hidden));
    RETURN_IF_ERROR(filler.Matrix(layer.w2, config.num_experts * hidden, config.intermediate_size));
  }
  RETURN_IF_ERROR(filler.Floats(layout.norm, ones));
  if (!config.tie_word_embeddings) {
    RETURN_IF_ERROR(filler.Matrix(layout.lm_head, config.vocab_size, hidden));
  }
  return gpu.Synchronize();
}

}  // namespace adamoe
