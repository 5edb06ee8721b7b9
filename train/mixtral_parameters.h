// The trainable tensors of a Mixtral or AdaMoE model, in the fused form the reference computes
// with. Tensors are shared handles: copying the struct copies no data. Thread-compatible.
#ifndef ADAMOE_TRAIN_MIXTRAL_PARAMETERS_H_
#define ADAMOE_TRAIN_MIXTRAL_PARAMETERS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "server/weights/model_config.h"

namespace adamoe {

struct MixtralLayerParameters {
  at::Tensor input_norm;      // [hidden]
  at::Tensor post_attn_norm;  // [hidden]
  at::Tensor qkv_proj;        // [(heads + 2 * kv_heads) * head_dim, hidden]: q, then k, then v
  at::Tensor o_proj;          // [hidden, heads * head_dim]
  at::Tensor gate;            // [n, hidden]
  at::Tensor gate2;           // [m, hidden]; m may be 0
  at::Tensor w13;             // [n, 2 * intermediate, hidden]: w1, then w3
  at::Tensor w2;              // [n, hidden, intermediate]
};

struct MixtralParameters {
  at::Tensor embed_tokens;  // [vocab, hidden]
  at::Tensor norm;          // [hidden]
  at::Tensor lm_head;       // [vocab, hidden]; undefined when tied: embed_tokens takes its place
  std::vector<MixtralLayerParameters> layers;
};

// Random float32 parameters: norms 1, matrices normal with deviation 0.02, those that write to the
// residual stream (o_proj, w2) smaller by sqrt(2 * layers). Depends on `config` and `seed` alone.
MixtralParameters RandomParameters(const ModelConfig& config, uint64_t seed);

// Every defined tensor, in a fixed order.
std::vector<at::Tensor*> AllTensors(MixtralParameters* parameters);

// A copy to compute with: matrices of attention, experts and lm_head in `matmul_dtype`, everything
// else (embeddings, norms, routers) as it is. New leaves that require gradients, in the order of
// AllTensors.
MixtralParameters ComputeCopy(const MixtralParameters& parameters, at::ScalarType matmul_dtype);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MIXTRAL_PARAMETERS_H_
