#include "server/model/attention_block.h"

#include "server/model/tensors.h"

namespace adamoe {

AttentionBlock::AttentionBlock(const ModelConfig& config, const MixtralLayerWeights& weights,
                               const KvLayer& cache)
    : q_proj_(AsMatrix(weights.q_proj)),
      k_proj_(AsMatrix(weights.k_proj)),
      v_proj_(AsMatrix(weights.v_proj)),
      o_proj_(AsMatrix(weights.o_proj)),
      cache_(cache),
      num_heads_(config.num_heads),
      rope_theta_(config.rope_theta) {}

void AttentionBlock::Forward(const StepInput& step, const float* x, Ops& ops,
                             Activations& activations, float* out) const {
  const int32_t num_tokens = step.num_tokens();
  const ForwardBatch& batch = step.batch();
  float* q = Grown(activations.queries, num_tokens * q_proj_.rows);
  float* k = Grown(activations.keys, num_tokens * k_proj_.rows);
  float* v = Grown(activations.values, num_tokens * v_proj_.rows);
  float* attended = Grown(activations.attended, num_tokens * q_proj_.rows);

  ops.Linear(q_proj_, x, num_tokens, q);
  ops.Linear(k_proj_, x, num_tokens, k);
  ops.Linear(v_proj_, x, num_tokens, v);
  ops.Rope(batch.positions.data(), rope_theta_, num_tokens, num_heads_, cache_.head_dim, q);
  ops.Rope(batch.positions.data(), rope_theta_, num_tokens, cache_.num_kv_heads, cache_.head_dim,
           k);
  ops.AppendKv(k, v, batch.kv_slots.data(), num_tokens, cache_);
  ops.Attention(q, cache_, step.attention(), num_heads_, attended);
  ops.Linear(o_proj_, attended, num_tokens, out);
}

}  // namespace adamoe
