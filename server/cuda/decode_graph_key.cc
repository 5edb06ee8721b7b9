#include "server/cuda/decode_graph_key.h"

#include <algorithm>
#include <bit>

namespace adamoe::cuda {

int32_t PowerOfTwoFrom(int32_t value) {
  return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(value)));
}

std::optional<DecodeGraphKey> DecodeGraphFor(const ForwardBatch& batch, int32_t max_tokens) {
  const int32_t num_tokens = batch.num_tokens();
  // Every sequence has at least one token, so equal numbers mean one each.
  if (num_tokens != batch.num_sequences()) return std::nullopt;
  if (num_tokens > std::min(max_tokens, kMaxGraphTokens)) return std::nullopt;
  size_t max_blocks = 0;
  for (const auto& table : batch.block_tables) max_blocks = std::max(max_blocks, table.size());
  return DecodeGraphKey{
      .num_tokens = PowerOfTwoFrom(num_tokens),
      .max_blocks = PowerOfTwoFrom(std::max(static_cast<int32_t>(max_blocks), kMinGraphBlocks))};
}

}  // namespace adamoe::cuda
