// The matrix product by AMX tiles: 16 weight rows x 32 columns, as they lie in memory, times 32
// columns of 16 tokens, added in float32 to a tile of 16 x 16 outputs.
//
// Activations come in groups of 16 tokens (kernel_table.h, to_tiles), weights as rows. An output is
// one chain of additions along k, whatever shares its tiles: one token alone gives the same bits as
// a batch. With few tokens time goes into reading weights, so a tile takes its rows from 16 places
// of the panel, each read through from end to end, as in dot_inl.h. With many, two tiles of
// consecutive rows and two of tokens are multiplied with each other, and the rows that come next
// are asked for meanwhile. Included only by kernels_<isa>.cc (see simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_TILE_DOT_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_TILE_DOT_INL_H_

#include "server/kernels/cpu/elementwise_inl.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/simd_inl.h"

namespace adamoe {
namespace {

constexpr int kTileRows = 16;
constexpr int64_t kTileCols = 32;
// 4-byte pairs that 16 tokens take for kTileCols columns.
constexpr int64_t kTilePairs = kTileCols / 2 * kTileTokenGroup;

// Tokens up to which reading the weights is what takes time: two tiles.
constexpr int64_t kFewTokens = 2 * kTileTokenGroup;

// What the processor wants to know of its eight tile registers: all are 16 rows of 64 bytes.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Up to 16 rows of weights, `step` rows apart.
struct Strip {
  int64_t first;
  int64_t step;
  int count;
};

// Asks for memory piece by piece, in order.
struct LookAhead {
  const char* next = nullptr;  // null: nothing to ask for
  int64_t lines_per_step = 0;

  ADAMOE_INLINE void Step() {
    if (next == nullptr) return;
    for (int64_t i = 0; i < lines_per_step; ++i) __builtin_prefetch(next + i * 64, 0, 2);
    next += lines_per_step * 64;
  }
};

// kStrips tiles of weights times kGroups tiles of tokens. Registers: sums in 0 to 3 (strip by
// strip), weights in 4 and 5, tokens in 6 and 7.
template <int kStrips, int kGroups>
struct TileProduct {
  static ADAMOE_INLINE void Clear() {
    _tile_zero(0);
    if constexpr (kGroups > 1) _tile_zero(1);
    if constexpr (kStrips > 1) _tile_zero(2);
    if constexpr (kStrips > 1 && kGroups > 1) _tile_zero(3);
  }

  // w: the first row of each strip, rows `row_bytes` apart; x: each group, at the same column.
  static ADAMOE_INLINE void Step(const uint16_t* const* w, int64_t row_bytes,
                                 const uint32_t* const* x) {
    _tile_loadd(6, x[0], 64);
    _tile_loadd(4, w[0], row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kGroups > 1) {
      _tile_loadd(7, x[1], 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kStrips > 1) {
      _tile_loadd(5, w[1], row_bytes);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kStrips > 1 && kGroups > 1) _tile_dpbf16ps(3, 5, 7);
  }

  // sums: [kStrips * 2, 16, 16], of which a group's are [rows, tokens].
  static ADAMOE_INLINE void Store(float* sums) {
    _tile_stored(0, sums, 64);
    if constexpr (kGroups > 1) _tile_stored(1, sums + 256, 64);
    if constexpr (kStrips > 1) _tile_stored(2, sums + 512, 64);
    if constexpr (kStrips > 1 && kGroups > 1) _tile_stored(3, sums + 768, 64);
  }
};

// out[t * stride + r] = in[r * 16 + t]: in four rounds, the n-th exchanging blocks of 8, 4, 2, 1.
void Transpose(const float* in, float* out, int64_t stride) {
  F v[16];
  for (int i = 0; i < 16; ++i) v[i] = Load(in + i * 16);
  const U lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#pragma GCC unroll 4
  for (unsigned block = 8; block > 0; block /= 2) {
    // Lanes 16 and above are the second vector's.
    const auto upper = reinterpret_cast<U>((lane & block) != 0u);
    const U low = (upper & ((lane ^ block) + 16u)) | (~upper & lane);
    const U high = (upper & (lane + 16u)) | (~upper & (lane ^ block));
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; ++i) {
      if (i & block) continue;
      const F a = v[i], b = v[i | block];
      v[i] = _mm512_permutex2var_ps(a, reinterpret_cast<__m512i>(low), b);
      v[i | block] = _mm512_permutex2var_ps(a, reinterpret_cast<__m512i>(high), b);
    }
  }
  for (int i = 0; i < 16; ++i) Store(v[i], out + i * stride);
}

// Products of the strips with the token groups from `group` on.
template <int kStrips, int kGroups>
void MultiplyStrips(const DotArgs& args, const Strip* strips, int64_t group, LookAhead& ahead) {
  using Product = TileProduct<kStrips, kGroups>;
  const auto* weights = static_cast<const uint16_t*>(args.w);
  const uint32_t* x[kGroups];
  const uint16_t* w[kStrips];
  bool whole = true;  // all strips have 16 rows
  for (int g = 0; g < kGroups; ++g) {
    x[g] = static_cast<const uint32_t*>(args.x[(group + g) * kTileTokenGroup]);
  }
  for (int s = 0; s < kStrips; ++s) {
    w[s] = weights + strips[s].first * args.w_stride;
    whole = whole && strips[s].count == kTileRows;
  }
  Product::Clear();
  int64_t k = 0;
  for (; whole && k + kTileCols <= args.cols; k += kTileCols) {
    Product::Step(w, strips[0].step * args.w_stride * 2, x);
    for (int s = 0; s < kStrips; ++s) w[s] += kTileCols;
    for (int g = 0; g < kGroups; ++g) x[g] += kTilePairs;
    ahead.Step();
  }
  // What is no whole tile is copied to one, beside zeros.
  for (; k < args.cols; k += kTileCols) {
    alignas(64) uint16_t copies[kStrips][kTileRows * kTileCols] = {};
    const uint16_t* copied[kStrips];
    const int64_t n = args.cols - k < kTileCols ? args.cols - k : kTileCols;
    for (int s = 0; s < kStrips; ++s) {
      copied[s] = copies[s];
      for (int i = 0; i < strips[s].count; ++i) {
        const int64_t row = strips[s].first + i * strips[s].step;
        __builtin_memcpy(copies[s] + i * kTileCols, weights + row * args.w_stride + k,
                         static_cast<size_t>(n) * 2);
      }
    }
    Product::Step(copied, 64, x);
    for (int g = 0; g < kGroups; ++g) x[g] += kTilePairs;
  }

  alignas(64) float sums[kStrips * 512];
  Product::Store(sums);
  for (int s = 0; s < kStrips; ++s) {
    for (int g = 0; g < kGroups; ++g) {
      const float* tile = sums + s * 512 + g * 256;
      const int64_t first_token = (group + g) * kTileTokenGroup;
      const int64_t left = args.tokens - first_token;
      float* y = args.y + first_token * args.y_stride + strips[s].first;
      if (left >= kTileTokenGroup && strips[s].count == kTileRows && strips[s].step == 1) {
        Transpose(tile, y, args.y_stride);
        continue;
      }
      for (int64_t t = 0; t < left && t < kTileTokenGroup; ++t) {
        for (int i = 0; i < strips[s].count; ++i) {
          y[t * args.y_stride + i * strips[s].step] = tile[i * 16 + t];
        }
      }
    }
  }
}

// The strips with all tokens.
template <int kStrips>
void MultiplyGroups(const DotArgs& args, const Strip* strips, LookAhead ahead) {
  const int64_t groups = (args.tokens + kTileTokenGroup - 1) / kTileTokenGroup;
  int64_t g = 0;
  for (; g + 2 <= groups; g += 2) MultiplyStrips<kStrips, 2>(args, strips, g, ahead);
  if (g < groups) MultiplyStrips<kStrips, 1>(args, strips, g, ahead);
}

// Rows from `row` on, which make up less than a strip.
void MultiplyRest(const DotArgs& args, int64_t row) {
  if (row == args.rows) return;
  const Strip rest{row, 1, static_cast<int>(args.rows - row)};
  MultiplyGroups<1>(args, &rest, {});
}

void DotTilesFew(const DotArgs& args) {
  const int64_t step = args.rows / kTileRows;
  for (int64_t r = 0; r < step; ++r) {
    const Strip strip{r, step, kTileRows};
    MultiplyGroups<1>(args, &strip, {});
  }
  MultiplyRest(args, step * kTileRows);
}

void DotTilesMany(const DotArgs& args) {
  constexpr int64_t kRows = 2 * kTileRows;
  const int64_t passes = (args.tokens + 2 * kTileTokenGroup - 1) / (2 * kTileTokenGroup);
  const int64_t row_bytes = args.w_stride * 2;
  int64_t r = 0;
  for (; r + kRows <= args.rows; r += kRows) {
    const Strip strips[2] = {{r, 1, kTileRows}, {r + kTileRows, 1, kTileRows}};
    LookAhead ahead;
    if (r + 2 * kRows <= args.rows) {
      ahead.next = static_cast<const char*>(args.w) + (r + kRows) * row_bytes;
      ahead.lines_per_step = (kRows + passes - 1) / passes;
    }
    MultiplyGroups<2>(args, strips, ahead);
  }
  for (; r + kTileRows <= args.rows; r += kTileRows) {
    const Strip strip{r, 1, kTileRows};
    MultiplyGroups<1>(args, &strip, {});
  }
  MultiplyRest(args, r);
}

void DotTiles(const DotArgs& args) {
  const TileShapes shapes;
  _tile_loadconfig(&shapes);
  args.tokens <= kFewTokens ? DotTilesFew(args) : DotTilesMany(args);
  _tile_release();
}

void ToTiles(const float* in, int64_t first, int64_t n, int64_t cols, void* row) {
  auto* out = static_cast<uint32_t*>(row) + first / 2 * kTileTokenGroup;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    alignas(64) uint32_t pairs[kLanes / 2];
    StoreAs(ToBf16(Load(in + i)), pairs);
    for (int p = 0; p < kLanes / 2; ++p) out[(i / 2 + p) * kTileTokenGroup] = pairs[p];
  }
  const int64_t last = first + n;
  const int64_t end = last < cols ? last : (cols + kTileCols - 1) / kTileCols * kTileCols;
  for (; first + i < end; i += 2) {
    uint16_t pair[2] = {};
    if (i < n) Narrow(in + i, i + 1 < n ? 2 : 1, pair);
    __builtin_memcpy(out + i / 2 * kTileTokenGroup, pair, sizeof(pair));
  }
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_TILE_DOT_INL_H_
