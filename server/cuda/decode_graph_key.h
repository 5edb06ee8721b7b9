// Which steps run as a replayed CUDA graph, and which steps share one. A graph fixes its sizes, so
// a step that only decodes is padded to the next power of two of tokens and of KV blocks per
// sequence. Padding is neutral: it stores no keys, is routed to no expert and counts nothing. Pure.
#ifndef ADAMOE_SERVER_CUDA_DECODE_GRAPH_KEY_H_
#define ADAMOE_SERVER_CUDA_DECODE_GRAPH_KEY_H_

#include <compare>
#include <cstdint>
#include <optional>

#include "server/model/model.h"

namespace adamoe::cuda {

// Beyond this many tokens launching kernels is small beside running them.
inline constexpr int32_t kMaxGraphTokens = 256;
// Fewest columns of a graph's block tables.
inline constexpr int32_t kMinGraphBlocks = 16;

struct DecodeGraphKey {
  int32_t num_tokens = 0;  // a power of two, 1 to kMaxGraphTokens
  int32_t max_blocks = 0;  // columns of the block tables: a power of two, kMinGraphBlocks or more

  auto operator<=>(const DecodeGraphKey&) const = default;
};

// The graph for `batch`; nothing when it is not one token per sequence, or has more tokens than
// `max_tokens` or kMaxGraphTokens.
std::optional<DecodeGraphKey> DecodeGraphFor(const ForwardBatch& batch, int32_t max_tokens);

// The least power of two that is not below `value`. REQUIRES: 1 <= value <= 2^30.
int32_t PowerOfTwoFrom(int32_t value);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_DECODE_GRAPH_KEY_H_
