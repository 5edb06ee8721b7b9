// What attention reads: the heads of a fused q, k, v projection, rotated by position,
// differentiable. Thread-safe.
#ifndef ADAMOE_TRAIN_ROTATED_HEADS_H_
#define ADAMOE_TRAIN_ROTATED_HEADS_H_

#include <ATen/ATen.h>

#include <cstdint>

namespace adamoe {

// [batch, heads, length, head_dim] each: as many keys and values as queries.
struct AttentionHeads {
  at::Tensor q;
  at::Tensor k;
  at::Tensor v;
};

// qkv: [batch, length, (heads + 2 * kv_heads) * head_dim], f64, f32 or bf16: q, then k, then v,
// before rotation. cos, sin: [length, head_dim / 2], f32. q and k are turned by Hugging Face's half
// rotation (arXiv 2104.09864); each key and value head is repeated for the heads / kv_heads queries
// that read it. Returns f64 where qkv is that, f32 otherwise.
AttentionHeads RotatedHeads(const at::Tensor& qkv, int64_t heads, int64_t kv_heads,
                            const at::Tensor& cos, const at::Tensor& sin);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_ROTATED_HEADS_H_
