// One layer's self-attention: grouped queries, rotary positions, keys and values in the paged cache
// (Mixtral, arXiv 2401.04088). Immutable; the cache it writes belongs to the model.
#ifndef ADAMOE_SERVER_MODEL_ATTENTION_BLOCK_H_
#define ADAMOE_SERVER_MODEL_ATTENTION_BLOCK_H_

#include <cstdint>

#include "server/kernels/ops.h"
#include "server/model/activations.h"
#include "server/model/step_input.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/model_config.h"

namespace adamoe {

class AttentionBlock {
 public:
  // Refers to the memory of `weights` and `cache`.
  AttentionBlock(const ModelConfig& config, const MixtralLayerWeights& weights,
                 const KvLayer& cache);

  // out = W_o attention(x), after storing this step's keys and values. x, out: [num_tokens,
  // hidden].
  void Forward(const StepInput& step, const float* x, Ops& ops, Activations& activations,
               float* out) const;

 private:
  Matrix q_proj_;  // [num_heads * head_dim, hidden]
  Matrix k_proj_;  // [num_kv_heads * head_dim, hidden]
  Matrix v_proj_;  // [num_kv_heads * head_dim, hidden]
  Matrix o_proj_;  // [hidden, num_heads * head_dim]
  KvLayer cache_;
  int32_t num_heads_;
  float rope_theta_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_ATTENTION_BLOCK_H_
