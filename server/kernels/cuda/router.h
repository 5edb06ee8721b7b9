// AdaMoE routing on the device: what ops.h's Route says, without the host knowing the outcome. The
// contracts at the top of cuda_types.h hold.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_ROUTER_H_
#define ADAMOE_SERVER_KERNELS_CUDA_ROUTER_H_

#include <cstddef>
#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"

namespace adamoe::cuda {

// The true picks of a batch, gathered by expert. Deterministic: rows ascend by token within an
// expert. All pointers lie in one piece of memory (PlaceRouting). max_rows = num_tokens * min(k,
// n).
struct DeviceRouting {
  int32_t num_tokens = 0;
  int32_t num_experts = 0;            // n
  int32_t max_picks = 0;              // min(k, n): true picks of a token at most
  int32_t* expert_begin = nullptr;    // [n + 1], first row of each expert, then the number of rows
  int32_t* active_experts = nullptr;  // [n], those with rows, ascending; the rest undefined
  int32_t* num_active_experts = nullptr;  // [1]
  int32_t* row_token = nullptr;           // [max_rows], the first expert_begin[n] defined
  float* row_weight = nullptr;  // [max_rows], p_i over the sum of the token's kept true picks
  // The way back: a token's rows, ascending by expert.
  int32_t* token_rows = nullptr;  // [num_tokens, max_picks], the first num_token_rows[t] defined
  int32_t* num_token_rows = nullptr;  // [num_tokens]
  // Scratch between the two halves of Route.
  uint64_t* kept_experts = nullptr;  // [num_tokens], a bit per expert
  float* kept_weights = nullptr;     // [num_tokens, max_picks], ascending by expert
};

// Bytes of a routing, and its pointers into `memory` (256-byte aligned, that many bytes). Pure: may
// be called with memory = nullptr for offsets. Not cleared: Route writes all that is defined.
size_t RoutingBytes(int32_t num_tokens, int32_t num_experts, int32_t experts_per_token);
DeviceRouting PlaceRouting(void* memory, int32_t num_tokens, int32_t num_experts,
                           int32_t experts_per_token);

// logits = x router^T in float32 throughout. x: [num_tokens, hidden]; router: [width, hidden], true
// experts' rows first; logits: [num_tokens, width].
cudaError_t RouterLogits(const float* x, const float* router, int32_t num_tokens, int32_t hidden,
                         int32_t width, float* logits, cudaStream_t stream);

struct RouteArgs {
  const float* logits = nullptr;          // [num_tokens, n + m]
  const float* null_bias = nullptr;       // [num_tokens] or null, added to null logits
  const uint32_t* max_experts = nullptr;  // [num_tokens] or null; 0: no limit
  // [1] or null: tokens at and past it are a graph's padding: no rows, their slots not written.
  const int32_t* num_valid_tokens = nullptr;
  int32_t num_null_experts = 0;   // m
  int32_t experts_per_token = 0;  // k, 1 <= k <= n + m
  // Of this layer and token t at [t * slot_stride] (any alignment): for ForwardResult's
  // [num_tokens, num_layers], pass base + layer and num_layers. May be null.
  uint8_t* null_slots = nullptr;
  uint8_t* dropped = nullptr;
  int64_t slot_stride = 0;
};

// Softmax over n + m logits in float32, the k largest (ties: lowest index), null picks dropped,
// true picks past max_experts cut, least probable first, weights renormalised over those kept, and
// a counting sort by expert. One kernel for few tokens, two for many.
cudaError_t Route(const RouteArgs& args, const DeviceRouting& routing, cudaStream_t stream);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_ROUTER_H_
