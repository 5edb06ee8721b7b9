// How the products cut a batch into tiles of tokens, whose widths are known when compiled. Included
// only by kernels_<isa>.cc (see simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_TOKEN_TILES_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_TOKEN_TILES_INL_H_

#include <cstdint>

#include "server/kernels/cpu/simd_inl.h"

namespace adamoe {
namespace {

// body.template Run<n>(first), for 1 <= n <= kWidest.
template <int kWidest, class Body>
void RunTile(int64_t first, int64_t n, const Body& body) {
  if (n == kWidest) {
    body.template Run<kWidest>(first);
  } else if constexpr (kWidest > 1) {
    RunTile<kWidest - 1>(first, n, body);
  }
}

// The same for tiles of nearly equal width that cover [0, tokens).
template <int kWidest, class Body>
void ForEachTokenTile(int64_t tokens, const Body& body) {
  const int64_t num_tiles = (tokens + kWidest - 1) / kWidest;
  for (int64_t i = 0; i < num_tiles; ++i) {
    const int64_t begin = tokens * i / num_tiles;
    const int64_t end = tokens * (i + 1) / num_tiles;
    RunTile<kWidest>(begin, end - begin, body);
  }
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_TOKEN_TILES_INL_H_
