// The device memory that a step works in: buffers for the largest step there will be, at addresses
// that stay, so that graphs may hold them. Pure but for the kernels' own arithmetic.
#ifndef ADAMOE_SERVER_CUDA_STEP_BUFFERS_H_
#define ADAMOE_SERVER_CUDA_STEP_BUFFERS_H_

#include <cstddef>
#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"
#include "server/weights/model_config.h"

namespace adamoe::cuda {

// Steps that are no graphs are padded to a multiple of this many tokens and rows of logits, so that
// matrix products come in fewer sizes (each costs a search on the host, once).
inline constexpr int32_t kRowMultiple = 16;
constexpr int32_t PaddedRows(int32_t rows) {
  return (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
}

// Of the largest step.
struct StepLimits {
  int32_t num_tokens = 0;      // padding included
  int32_t num_sequences = 0;   // padding of graphs included
  int32_t max_blocks = 0;      // columns of the block tables
  int32_t num_logit_rows = 0;  // logits that are made at a time
  int32_t max_context = 0;     // positions
};

// Limits for steps of up to `max_batch_tokens` tokens of up to `max_sequences` sequences, with
// contexts of up to `max_context` positions.
StepLimits LimitsOf(int32_t max_context, int32_t block_size, int32_t max_batch_tokens,
                    int32_t max_sequences);

// Pointers into one piece of memory, or with a base of null: offsets.
struct StepBuffers {
  // `memory`: num_bytes of a StepBuffers made with the same arguments; null to ask for it.
  StepBuffers(const ModelConfig& config, const StepLimits& limits, int32_t num_multiprocessors,
              std::byte* memory);

  std::byte* inputs;  // as InputLayout says
  std::byte* counts;  // as CountLayout says
  float* logits;      // [num_logit_rows, vocab]

  float* residual;        // [num_tokens, hidden]
  Bf16* normed;           // [num_tokens, hidden]
  float* normed_float32;  // [num_tokens, hidden]
  float* qkv;             // [num_tokens, (heads + 2 kv_heads) * head_dim]
  Bf16* attended;         // [num_tokens, heads * head_dim]
  float* router_logits;   // [num_tokens, n + m]
  std::byte* routing;     // as router.h's PlaceRouting says
  Bf16* inner;            // [num_tokens * min(k, n), intermediate]
  float* rows_out;        // [num_tokens * min(k, n), hidden]
  Bf16* logits_normed;    // [num_logit_rows, hidden]

  std::byte* attention_workspace;
  int64_t attention_workspace_bytes;
  std::byte* linear_workspace;  // DenseLinear::kWorkspaceBytes

  int64_t input_bytes;  // of inputs
  int64_t count_bytes;  // of counts
  int64_t num_bytes;    // of all
};

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_STEP_BUFFERS_H_
