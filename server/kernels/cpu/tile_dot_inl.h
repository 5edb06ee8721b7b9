// The matrix product by AMX tiles: 16 weight rows x 32 columns times 32 columns of 16 tokens, added
// in float32 to a tile of 16 x 16 outputs.
//
// Activations come in groups of 16 tokens (kernel_table.h, to_tiles), weights as rows. An output is
// one chain of additions along k, whatever shares its tiles: one token alone gives the same bits as
// a batch. With few tokens time goes into reading weights, so a tile takes its rows from 16 places
// of the panel, each read through from end to end, as in dot_inl.h. With many, slices of two tiles'
// rows are copied together, so that they stay in the first-level cache while two tiles of tokens
// after the other are multiplied with them, and the rows that come next are asked for meanwhile.
// Included only by kernels_<isa>.cc (see simd_inl.h).
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
// Not on the stack: to the compiler, loading the shapes reads their first bytes only.
constexpr TileShapes kTileShapes;

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

  // As Store left them.
  static ADAMOE_INLINE void Load(const float* sums) {
    _tile_loadd(0, sums, 64);
    if constexpr (kGroups > 1) _tile_loadd(1, sums + 256, 64);
    if constexpr (kStrips > 1) _tile_loadd(2, sums + 512, 64);
    if constexpr (kStrips > 1 && kGroups > 1) _tile_loadd(3, sums + 768, 64);
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

  // sums: [kStrips * 2, 16, 16], strip by strip two groups, of which each is [rows, tokens].
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

// Copies columns [k, k + n) of the strip to tiles, zeros behind them; returns the tiles' number.
// Tiles of a step lie `step_elements` apart.
int64_t CopyTiles(const DotArgs& args, const Strip& strip, int64_t k, int64_t n,
                  int64_t step_elements, uint16_t* tiles) {
  const auto* weights = static_cast<const uint16_t*>(args.w) + k;
  const int64_t whole = n / kTileCols, rest = n % kTileCols;
  for (int i = 0; i < kTileRows; ++i) {
    uint16_t* out = tiles + i * kTileCols;
    const bool is_there = i < strip.count;
    const uint16_t* row = weights + (strip.first + (is_there ? i : 0) * strip.step) * args.w_stride;
    for (int64_t t = 0; t < whole; ++t, out += step_elements) {
      const __m512i columns = is_there ? _mm512_loadu_si512(row + t * kTileCols) : __m512i{};
      _mm512_store_si512(out, columns);
    }
    if (rest == 0) continue;
    const auto mask = static_cast<__mmask32>(is_there ? (uint64_t{1} << rest) - 1 : 0);
    _mm512_store_si512(out, _mm512_maskz_loadu_epi16(mask, row + whole * kTileCols));
  }
  return whole + (rest > 0);
}

// Writes a tile of outputs, [rows, tokens], of the strip and a group of tokens.
void WriteOut(const DotArgs& args, const Strip& strip, int64_t group, const float* tile) {
  const int64_t first_token = group * kTileTokenGroup;
  const int64_t left = args.tokens - first_token;
  float* y = args.y + first_token * args.y_stride + strip.first;
  if (left >= kTileTokenGroup && strip.count == kTileRows && strip.step == 1) {
    return Transpose(tile, y, args.y_stride);
  }
  for (int64_t t = 0; t < left && t < kTileTokenGroup; ++t) {
    for (int i = 0; i < strip.count; ++i) y[t * args.y_stride + i * strip.step] = tile[i * 16 + t];
  }
}

// A group's activations in tiles.
const uint32_t* TokenTiles(const DotArgs& args, int64_t group) {
  return static_cast<const uint32_t*>(args.x[group * kTileTokenGroup]);
}

// The strip, as it lies in memory, times all tokens: kGroups groups of them.
template <int kGroups>
void MultiplyStrip(const DotArgs& args, const Strip& strip) {
  using Product = TileProduct<1, kGroups>;
  const uint16_t* w = static_cast<const uint16_t*>(args.w) + strip.first * args.w_stride;
  const uint32_t* x[kGroups];
  for (int g = 0; g < kGroups; ++g) x[g] = TokenTiles(args, g);
  Product::Clear();
  int64_t k = 0;
  for (; strip.count == kTileRows && k + kTileCols <= args.cols; k += kTileCols) {
    const uint16_t* tile = w + k;
    Product::Step(&tile, strip.step * args.w_stride * 2, x);
    for (int g = 0; g < kGroups; ++g) x[g] += kTilePairs;
  }
  // What is no whole tile is copied to one.
  for (; k < args.cols; k += kTileCols) {
    alignas(64) uint16_t copy[kTileRows * kTileCols];
    const uint16_t* tile = copy;
    const int64_t n = args.cols - k < kTileCols ? args.cols - k : kTileCols;
    CopyTiles(args, strip, k, n, 0, copy);
    Product::Step(&tile, 64, x);
    for (int g = 0; g < kGroups; ++g) x[g] += kTilePairs;
  }
  alignas(64) float sums[512];
  Product::Store(sums);
  for (int g = 0; g < kGroups; ++g) WriteOut(args, strip, g, sums + g * 256);
}

template <int kGroups>
void DotTilesFew(const DotArgs& args) {
  const int64_t step = args.rows / kTileRows;
  for (int64_t r = 0; r < step; ++r) MultiplyStrip<kGroups>(args, {r, step, kTileRows});
  const int64_t row = step * kTileRows;
  if (row < args.rows) {
    MultiplyStrip<kGroups>(args, {row, 1, static_cast<int>(args.rows - row)});
  }
}

// A slice of weights, [num_tiles, 2 strips, 16, 32], times kGroups groups of tokens from column
// `first_col` on, added to their sums, [2 strips * 2, 16, 16].
template <int kGroups>
void AddSlice(const DotArgs& args, const uint16_t* tiles, int64_t num_tiles, int64_t first_col,
              int64_t group, float* sums, LookAhead& ahead) {
  using Product = TileProduct<2, kGroups>;
  const uint32_t* x[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    x[g] = TokenTiles(args, group + g) + first_col / kTileCols * kTilePairs;
  }
  first_col == 0 ? Product::Clear() : Product::Load(sums);
  for (int64_t i = 0; i < num_tiles; ++i) {
    const uint16_t* w[2] = {tiles, tiles + kTileRows * kTileCols};
    Product::Step(w, 64, x);
    tiles += 2 * kTileRows * kTileCols;
    for (int g = 0; g < kGroups; ++g) x[g] += kTilePairs;
    ahead.Step();
  }
  Product::Store(sums);
}

void DotTilesMany(const DotArgs& args) {
  constexpr int64_t kRows = 2 * kTileRows;
  constexpr int64_t kStripElements = kTileRows * kTileCols;
  alignas(64) uint16_t tiles[kRows * kSliceCols];
  const int64_t groups = (args.tokens + kTileTokenGroup - 1) / kTileTokenGroup;
  const int64_t passes = (groups + 1) / 2;
  float* const sums = args.scratch;  // [passes, 2 strips * 2, 16, 16]
  for (int64_t r = 0; r < args.rows; r += kRows) {
    Strip strips[2];
    for (int64_t s = 0; s < 2; ++s) {
      const int64_t first = r + s * kTileRows, left = args.rows - first;
      strips[s] = {first, 1, static_cast<int>(left < 0 ? 0 : left < kTileRows ? left : kTileRows)};
    }
    LookAhead ahead;
    if (r + 2 * kRows <= args.rows) {
      ahead.next = static_cast<const char*>(args.w) + (r + kRows) * args.w_stride * 2;
      ahead.lines_per_step = (kRows + passes - 1) / passes;
    }
    for (int64_t k = 0; k < args.cols; k += kSliceCols) {
      const int64_t n = args.cols - k < kSliceCols ? args.cols - k : kSliceCols;
      CopyTiles(args, strips[0], k, n, 2 * kStripElements, tiles);
      const int64_t num_tiles =
          CopyTiles(args, strips[1], k, n, 2 * kStripElements, tiles + kStripElements);
      for (int64_t p = 0; p < passes; ++p) {
        const auto add = 2 * p + 1 < groups ? &AddSlice<2> : &AddSlice<1>;
        add(args, tiles, num_tiles, k, 2 * p, sums + p * 1024, ahead);
      }
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int s = 0; s < 2; ++s) {
        WriteOut(args, strips[s], g, sums + g / 2 * 1024 + s * 512 + g % 2 * 256);
      }
    }
  }
}

void DotTiles(const DotArgs& args) {
  _tile_loadconfig(&kTileShapes);
  if (args.tokens <= kTileTokenGroup) {
    DotTilesFew<1>(args);
  } else if (args.tokens <= kFewTokens) {
    DotTilesFew<2>(args);
  } else {
    DotTilesMany(args);
  }
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
