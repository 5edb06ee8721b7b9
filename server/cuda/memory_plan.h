// How the device's memory is shared out at start. Pure.
#ifndef ADAMOE_SERVER_CUDA_MEMORY_PLAN_H_
#define ADAMOE_SERVER_CUDA_MEMORY_PLAN_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/weights/model_config.h"

namespace adamoe::cuda {

// Left free by a KV cache whose size the server chooses: graphs, the driver's own needs, and
// fragmentation.
inline constexpr int64_t kReservedBytes = int64_t{1} << 30;

struct MemoryNeeds {
  int64_t weight_bytes = 0;
  int64_t step_bytes = 0;      // inputs, activations, results and workspaces of the largest step
  int64_t kv_block_bytes = 0;  // of one block in all layers
  int32_t block_size = 0;
  int64_t kv_cache_tokens = 0;      // wanted; 0: what is left
  int64_t max_kv_cache_tokens = 0;  // more would never be used, when what is left is taken
};

// Keys and values of one block in all layers, bfloat16.
int64_t KvBlockBytes(const ModelConfig& config, int32_t block_size);

// Blocks of the KV cache. INVALID_ARGUMENT for a size out of range. RESOURCE_EXHAUSTED, with every
// size, when `free_bytes` do not hold the weights, the step and the cache that is wanted (or one
// block, where what is left is taken).
absl::StatusOr<int32_t> PlanKvBlocks(const MemoryNeeds& needs, int64_t free_bytes);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_MEMORY_PLAN_H_
