// The small operations between matrix products. The contracts at the top of cuda_types.h hold.
//
// The residual stream is float32 and so is what a matrix product hands on; what enters a matrix
// product is rounded to bfloat16 once, as the CPU's kernels do with Precision::kBFloat16.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_ELEMENTWISE_H_
#define ADAMOE_SERVER_KERNELS_CUDA_ELEMENTWISE_H_

#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"
#include "server/kernels/cuda/router.h"

namespace adamoe::cuda {

// residual[t] = table[ids[t]], widened. table: [vocab, hidden]; ids: [num_tokens], in range;
// residual: [num_tokens, hidden].
cudaError_t Embed(const Bf16* table, const int32_t* ids, int32_t num_tokens, int32_t hidden,
                  float* residual, cudaStream_t stream);

struct RmsNormArgs {
  float* residual = nullptr;      // [num_tokens, hidden]
  const float* weight = nullptr;  // [hidden]
  float eps = 0.0f;
  int32_t num_rows = 0;
  int32_t hidden = 0;
  // Rows of `residual` to read, [num_rows] (4-byte aligned); null: row i is i.
  const int32_t* rows = nullptr;
  Bf16* normed = nullptr;           // [num_rows, hidden]
  float* normed_float32 = nullptr;  // [num_rows, hidden], or null: not wanted
};

// normed[i] = x / sqrt(mean(x^2) + eps) * weight, x = residual[rows[i]]. The float32 result is what
// the router reads; it is not rounded.
cudaError_t RmsNorm(const RmsNormArgs& args, cudaStream_t stream);

// Adds the experts' output to the residual stream, then as RmsNorm:
//   residual[t] += sum over t's rows of row_weight[row] * rows_out[row], ascending by expert
// summed in float32 before it is added. The residual of a token without rows keeps its bits.
// rows_out: [rows, hidden], float32 (experts.h). REQUIRES: args.rows is null; args.num_rows is the
// routing's num_tokens. args.normed null: adds only.
cudaError_t CombineRmsNorm(const DeviceRouting& routing, const float* rows_out,
                           const RmsNormArgs& args, cudaStream_t stream);

// One layer's share of the paged KV cache.
struct KvCache {
  Bf16* keys = nullptr;    // [num_blocks, block_size, num_kv_heads, head_dim]
  Bf16* values = nullptr;  // the same shape
  int32_t block_size = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;  // a multiple of 8, at most kMaxHeadDim
};

struct RopeAppendArgs {
  // [num_tokens, (num_heads + 2 * num_kv_heads) * head_dim]: queries, keys, values of a token side
  // by side, as one product with the three stacked weights makes them.
  float* qkv = nullptr;
  const int32_t* positions = nullptr;  // [num_tokens]
  // [num_tokens], block id * block size + offset; below 0: the token is padding, nothing is stored.
  const int32_t* slots = nullptr;
  const float* inverse_frequency = nullptr;  // [head_dim / 2], theta^(-2 i / head_dim)
  int32_t num_tokens = 0;
  int32_t num_heads = 0;
  KvCache cache;
};

// Rotates pairs (i, i + head_dim / 2) of every query head by position * inverse_frequency[i], in
// place, and stores the rotated keys and the values in the cache, rounded to bfloat16. The keys and
// values in `qkv` stay as they were.
cudaError_t RopeAppendKv(const RopeAppendArgs& args, cudaStream_t stream);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_ELEMENTWISE_H_
