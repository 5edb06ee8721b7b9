// Where each weight of a Mixtral or AdaMoE model lies on the device, and which tensor of the
// checkpoint goes there. Matrices are bfloat16; norms and the router, whose picks are discrete, are
// float32. Pure.
#ifndef ADAMOE_SERVER_CUDA_WEIGHT_LAYOUT_H_
#define ADAMOE_SERVER_CUDA_WEIGHT_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "server/base/dtype.h"
#include "server/cuda/layout.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/model_config.h"

namespace adamoe::cuda {

// Offsets in bytes from the start of the weights.
struct LayerLayout {
  int64_t input_norm = 0;      // [hidden], float32
  int64_t qkv_proj = 0;        // [(heads + 2 kv_heads) * head_dim, hidden]: q, then k, then v
  int64_t o_proj = 0;          // [hidden, heads * head_dim]
  int64_t post_attn_norm = 0;  // [hidden], float32
  int64_t router = 0;          // [n + m, hidden], float32: gate, then gate2
  int64_t w1 = 0;              // [n, intermediate, hidden]
  int64_t w3 = 0;              // [n, intermediate, hidden]
  int64_t w2 = 0;              // [n, hidden, intermediate]
};

struct WeightLayout {
  int64_t embed_tokens = 0;  // [vocab, hidden]
  int64_t norm = 0;          // [hidden], float32
  int64_t lm_head = 0;       // [vocab, hidden]; embed_tokens when tied
  std::vector<LayerLayout> layers;
  int64_t num_bytes = 0;
};

WeightLayout LayOutWeights(const ModelConfig& config);

// One tensor's way: all its elements, as `dtype`, to `offset`.
struct WeightCopy {
  const TensorView* source;
  int64_t offset;
  DType dtype;  // kBFloat16 or kFloat32
};

// Every tensor of `weights`, in the order of the layout; none twice. Refers to `weights`.
std::vector<WeightCopy> WeightCopies(const MixtralWeights& weights, const WeightLayout& layout);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_WEIGHT_LAYOUT_H_
