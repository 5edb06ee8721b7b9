// Where the inputs and the counts of one step lie, on the device and in the host's mirror of it:
// each is one piece of memory and one copy. Pure; thread-safe.
#ifndef ADAMOE_SERVER_CUDA_STEP_LAYOUT_H_
#define ADAMOE_SERVER_CUDA_STEP_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "server/model/model.h"

namespace adamoe::cuda {

// A step as the device runs it: as large as the batch, or padded to a graph's size.
struct StepShape {
  int32_t num_tokens = 0;
  int32_t num_sequences = 0;
  int32_t max_blocks = 0;       // columns of the block tables
  int32_t num_decode_work = 0;  // pieces of attention work, kWorkBytes each
  int32_t num_prefill_work = 0;
  int32_t num_logit_rows = 0;
};

inline constexpr int64_t kWorkBytes = 12;

// Offsets in bytes.
struct InputLayout {
  explicit InputLayout(const StepShape& shape);

  int64_t token_ids;         // [num_tokens], int32
  int64_t positions;         // [num_tokens], int32
  int64_t kv_slots;          // [num_tokens], int32; -1: padding
  int64_t null_bias;         // [num_tokens], float32
  int64_t max_experts;       // [num_tokens], uint32
  int64_t num_valid_tokens;  // [1], int32: tokens from here on are padding
  int64_t decode_work;       // [num_decode_work]
  int64_t prefill_work;      // [num_prefill_work]
  int64_t logit_rows;        // [num_logit_rows], int32
  int64_t block_tables;      // [num_sequences, max_blocks], int32
  int64_t num_bytes;
};

// Attention work as bytes: whole pieces.
struct AttentionWorkBytes {
  absl::Span<const std::byte> decode;
  absl::Span<const std::byte> prefill;
};

// Writes `batch` in the form of `shape` to `out`, LayOut(shape).num_bytes of them. What the shape
// has more than the batch becomes padding: tokens without a slot in the cache, work and block
// tables of zeros, logits of row 0. REQUIRES: no size of the batch or the work is above the
// shape's.
void WriteInputs(const ForwardBatch& batch, const AttentionWorkBytes& work, const StepShape& shape,
                 std::byte* out);

// Offsets in bytes.
struct CountLayout {
  CountLayout(int32_t num_tokens, int32_t num_layers, int32_t num_experts);

  int64_t executed;     // [num_tokens, num_layers], uint8
  int64_t null_slots;   // the same
  int64_t dropped;      // the same
  int64_t expert_rows;  // [num_layers, num_experts], uint32
  int64_t num_bytes;
};

// The counts of the first `num_tokens` tokens of a step. Resizes the result's vectors.
void ReadCounts(const std::byte* counts, const CountLayout& layout, int32_t num_tokens,
                const ModelDimensions& dimensions, ForwardResult* result);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_STEP_LAYOUT_H_
