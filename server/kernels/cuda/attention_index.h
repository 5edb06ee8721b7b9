// Which keys a position sees, who looks at them, and where they lie. Pure functions, the same on
// the host and on the device.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_ATTENTION_INDEX_H_
#define ADAMOE_SERVER_KERNELS_CUDA_ATTENTION_INDEX_H_

#include <cstdint>

#include "server/kernels/cuda/host_device.h"

namespace adamoe::cuda {

// Positions [begin, end).
struct KeyRange {
  int32_t begin = 0;
  int32_t end = 0;
};

// window: keys a position sees, its own included; 0: all.
ADAMOE_HD constexpr KeyRange SeenKeys(int32_t position, int32_t window) {
  const int32_t end = position + 1;
  return {window > 0 && end > window ? end - window : 0, end};
}

ADAMOE_HD constexpr bool Sees(int32_t position, int32_t window, int32_t key) {
  return key <= position && (window == 0 || key > position - window);
}

// The `split`-th of `num_splits` shares of `keys`: contiguous, in order, of equal length but the
// last ones, which may be empty; a multiple of 32 keys but for the end.
ADAMOE_HD constexpr KeyRange SplitKeys(const KeyRange& keys, int32_t split, int32_t num_splits) {
  const int32_t share = ((keys.end - keys.begin + num_splits - 1) / num_splits + 31) / 32 * 32;
  const int64_t begin = keys.begin + static_cast<int64_t>(split) * share;
  const int64_t end = begin + share;
  return {static_cast<int32_t>(begin < keys.end ? begin : keys.end),
          static_cast<int32_t>(end < keys.end ? end : keys.end)};
}

// Element where the key (or value) of a position and head starts. table: the sequence's blocks.
ADAMOE_HD constexpr int64_t KeyOffset(const int32_t* table, int32_t position, int32_t block_size,
                                      int32_t num_kv_heads, int32_t kv_head, int32_t head_dim) {
  const int64_t slot =
      static_cast<int64_t>(table[position / block_size]) * block_size + position % block_size;
  return (slot * num_kv_heads + kv_head) * head_dim;
}

// --- prefill: a tile has 128 rows; those of a token are the query heads of one key head ---

constexpr int32_t kAttentionTileRows = 128;
constexpr int32_t kAttentionTileKeys = 64;

// --- decode: what the blocks that share a token's keys leave for the merging kernel ---

// Element of a head's sum in the workspace: [num_work, num_heads, num_splits, head_dim], float32.
ADAMOE_HD constexpr int64_t PartialOffset(int32_t work, int32_t head, int32_t split,
                                          int32_t num_heads, int32_t num_splits, int32_t head_dim) {
  return ((static_cast<int64_t>(work) * num_heads + head) * num_splits + split) * head_dim;
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_ATTENTION_INDEX_H_
