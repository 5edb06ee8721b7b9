#include "server/cuda/memory_plan.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adamoe::cuda {
namespace {

// Slots are numbered with 32 bits.
constexpr int64_t kMaxKvTokens = std::numeric_limits<int32_t>::max() / 2;

std::string GiB(int64_t bytes) {
  return absl::StrFormat("%.3f GiB", static_cast<double>(bytes) / (int64_t{1} << 30));
}

int64_t BlocksFor(int64_t tokens, int32_t block_size) {
  return (tokens + block_size - 1) / block_size;
}

absl::Status DoesNotFit(const MemoryNeeds& needs, int64_t blocks, int64_t free_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "the GPU has ", GiB(free_bytes), " free; needed are ", GiB(needs.weight_bytes),
      " for weights, ", GiB(needs.step_bytes), " for a step (--max_batch_tokens), ",
      GiB(blocks * needs.kv_block_bytes), " for a KV cache of ", blocks * needs.block_size,
      " tokens", needs.kv_cache_tokens > 0 ? " (--kv_cache_tokens)" : " and 1 GiB in reserve"));
}

}  // namespace

int64_t KvBlockBytes(const ModelConfig& config, int32_t block_size) {
  return int64_t{2} * config.num_layers * block_size * config.num_kv_heads * config.head_dim * 2;
}

absl::StatusOr<int32_t> PlanKvBlocks(const MemoryNeeds& needs, int64_t free_bytes) {
  if (needs.block_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV block size is ", needs.block_size, ", expected at least 1"));
  }
  if (needs.kv_cache_tokens < 0 || needs.kv_cache_tokens > kMaxKvTokens) {
    return absl::InvalidArgumentError(absl::StrCat("kv_cache_tokens is ", needs.kv_cache_tokens,
                                                   ", expected 0 to ", kMaxKvTokens));
  }
  const int64_t left = free_bytes - needs.weight_bytes - needs.step_bytes;
  if (needs.kv_cache_tokens > 0) {
    const int64_t blocks = BlocksFor(needs.kv_cache_tokens, needs.block_size);
    if (left < 0 || blocks > left / needs.kv_block_bytes) {
      return DoesNotFit(needs, blocks, free_bytes);
    }
    return static_cast<int32_t>(blocks);
  }
  const int64_t fits = (left - kReservedBytes) / needs.kv_block_bytes;
  if (left < kReservedBytes || fits < 1) return DoesNotFit(needs, 1, free_bytes);
  const int64_t useful =
      BlocksFor(std::min(needs.max_kv_cache_tokens, kMaxKvTokens), needs.block_size);
  return static_cast<int32_t>(std::clamp<int64_t>(fits, 1, std::max<int64_t>(useful, 1)));
}

}  // namespace adamoe::cuda
