// Causal grouped-query attention over the paged KV cache, this step's keys already appended. The
// contracts at the top of cuda_types.h hold.
//
// The host cuts a batch into work (PlanAttention): sequences with one token in this step are
// decoded, chunks of prompts are cut into tiles. Decoding splits the keys of a token among blocks
// that each keep a softmax of their own, merged by a second kernel; everything is float32 but the
// cache. Prefill multiplies bfloat16 queries and probabilities with the tensor cores and keeps
// scores, sums and the output in float32.
//
//   AttentionPlan plan;
//   PlanAttention(token_begin, num_sequences, num_heads, num_kv_heads, head_dim, &plan);
//   ... plan.decode and plan.prefill copied to the device ...
//   AttendDecode(args, decode, plan.decode.size(), splits, workspace, stream);
//   AttendPrefill(args, prefill, plan.prefill.size(), stream);
#ifndef ADAMOE_SERVER_KERNELS_CUDA_ATTENTION_H_
#define ADAMOE_SERVER_KERNELS_CUDA_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/kernels/cuda/cuda_types.h"
#include "server/kernels/cuda/elementwise.h"

namespace adamoe::cuda {

// Tokens [first_token, first_token + num_tokens) of one sequence. 12 bytes, as the device reads it.
struct AttentionWork {
  int32_t first_token = 0;
  int32_t num_tokens = 0;  // 0: padding, nothing is done (a graph's spare entries)
  int32_t sequence = 0;    // row of the block tables
};

struct AttentionPlan {
  std::vector<AttentionWork> decode;   // of one token each
  std::vector<AttentionWork> prefill;  // of up to PrefillTileTokens tokens
};

// Whether AttendPrefill takes heads of this shape; others go through AttendDecode, token by token.
bool PrefillSupports(int32_t num_heads, int32_t num_kv_heads, int32_t head_dim);

// Tokens of one prefill tile. REQUIRES: PrefillSupports.
int32_t PrefillTileTokens(int32_t num_heads, int32_t num_kv_heads);

// Cuts a batch into work, replacing *plan. token_begin: [num_sequences + 1], host memory. Pure.
void PlanAttention(const int32_t* token_begin, int32_t num_sequences, int32_t num_heads,
                   int32_t num_kv_heads, int32_t head_dim, AttentionPlan* plan);

struct AttentionArgs {
  // Rotated queries: token t, head h at queries + t * query_stride + h * head_dim, float32.
  const float* queries = nullptr;
  int64_t query_stride = 0;  // floats, a multiple of 4: (num_heads + 2 * num_kv_heads) * head_dim
  int32_t num_heads = 0;     // a multiple of cache.num_kv_heads
  KvCache cache;
  const int32_t* positions = nullptr;     // [num_tokens]
  const int32_t* block_tables = nullptr;  // [num_sequences, max_blocks]
  int32_t max_blocks = 0;
  int32_t sliding_window = 0;  // keys a position sees, its own included; 0: all
  Bf16* out = nullptr;         // [num_tokens, num_heads * head_dim]
};

// How many blocks should share the keys of one token, 1 to kMaxSplits, so that `num_work` tokens
// with up to `max_context` keys fill a device of `num_multiprocessors`. Pure. A graph keeps the
// number it was captured with; the ranges follow each token's own position.
constexpr int32_t kMaxSplits = 64;
int32_t ChooseSplits(int32_t num_work, int32_t num_kv_heads, int32_t max_context,
                     int32_t num_multiprocessors);

// Bytes of workspace AttendDecode needs; 0 with one split. Pure.
size_t AttentionWorkspaceBytes(int32_t num_work, int32_t num_heads, int32_t head_dim,
                               int32_t num_splits);

// work: [num_work] on the device, num_tokens 0 or 1 each (4-byte aligned). Writes `out` of those
// tokens only. workspace may be null with one split; it may be reused by the next call on the
// stream. REQUIRES: 1 <= num_splits <= kMaxSplits.
cudaError_t AttendDecode(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                         int32_t num_splits, void* workspace, cudaStream_t stream);

// work: [num_work] on the device, up to PrefillTileTokens tokens each. Writes `out` of those tokens
// only. cudaErrorInvalidValue unless PrefillSupports.
cudaError_t AttendPrefill(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                          cudaStream_t stream);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_ATTENTION_H_
