// The matrix product: dot products of a tile of weight rows with a tile of tokens, held in
// registers along k.
//
// An output is one vector of partial sums, fed in order of k, whose lanes are added in a fixed
// order at the end. Which tile it falls in changes what shares the loads, never its own operations:
// one token alone gives the same bits as a batch. Included only by kernels_<isa>.cc (see
// simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_DOT_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_DOT_INL_H_

#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/simd_inl.h"
#include "server/kernels/cpu/token_tiles_inl.h"

namespace adamoe {
namespace {

// Tokens of the widest tile, and rows beside so many tokens: as many sums as registers allow,
// enough of them to hide the latency.
#if defined(__AVX512F__)
constexpr int kTileTokens = 12;
constexpr int RowsBeside(int tokens) { return tokens <= 3 ? 8 : tokens <= 6 ? 4 : 2; }
#else
constexpr int kTileTokens = 6;
constexpr int RowsBeside(int tokens) { return tokens <= 3 ? 4 : 2; }
#endif

// Products in float32 of rows of type W with rows of float32.
template <class W>
struct WidenedDot {
  using WElement = typename W::Element;
  using XElement = float;
  static constexpr int kStep = kLanes;
  static ADAMOE_INLINE F ReadW(const WElement* p) { return W::Read(p); }
  static ADAMOE_INLINE F ReadWFirst(const WElement* p, int64_t n) { return W::ReadFirst(p, n); }
  static ADAMOE_INLINE F ReadX(const float* p) { return Load(p); }
  static ADAMOE_INLINE F ReadXFirst(const float* p, int64_t n) { return LoadFirst<F>(p, n); }
  static ADAMOE_INLINE F Accumulate(F w, F x, F sum) { return Fma(w, x, sum); }
};

#if defined(__AVX512BF16__)
// Pairs of bfloat16 products, added in float32 by the processor.
struct Bf16Dot {
  using WElement = uint16_t;
  using XElement = uint16_t;
  static constexpr int kStep = 32;
  static ADAMOE_INLINE __m512i ReadW(const uint16_t* p) { return _mm512_loadu_si512(p); }
  static ADAMOE_INLINE __m512i ReadWFirst(const uint16_t* p, int64_t n) {
    return _mm512_maskz_loadu_epi16((1u << n) - 1u, p);
  }
  static ADAMOE_INLINE __m512i ReadX(const uint16_t* p) { return ReadW(p); }
  static ADAMOE_INLINE __m512i ReadXFirst(const uint16_t* p, int64_t n) { return ReadWFirst(p, n); }
  static ADAMOE_INLINE F Accumulate(__m512i w, __m512i x, F sum) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
  }
};
#endif

// Adds the products of a tile, R rows `stride` elements apart and T tokens, n columns of each, to
// its sums. kAhead: meanwhile it asks for the weights `ahead` elements further on.
template <class D, int R, int T, bool kAhead>
ADAMOE_INLINE void AddProducts(const typename D::WElement* w, int64_t stride, int64_t ahead,
                               const typename D::XElement* const* x, int64_t n, F (*sum)[R]) {
  int64_t k = 0;
  for (; k + D::kStep <= n; k += D::kStep) {
    decltype(D::ReadW(w)) wk[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      if constexpr (kAhead) __builtin_prefetch(w + r * stride + k + ahead);
      wk[r] = D::ReadW(w + r * stride + k);
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      auto xk = D::ReadX(x[t] + k);
      if constexpr (R > 1) KeepInRegister(xk);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[t][r] = D::Accumulate(wk[r], xk, sum[t][r]);
    }
  }
  if (k == n) return;
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    const auto xk = D::ReadXFirst(x[t] + k, n - k);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      sum[t][r] = D::Accumulate(D::ReadWFirst(w + r * stride + k, n - k), xk, sum[t][r]);
    }
  }
}

// One tile: R rows from `w` on, T tokens. It asks for the next tile's weights, `ahead` elements
// further on: the processor itself looks ahead along a row only, and rows are short.
template <class D, int R, int T>
void Tile(const typename D::WElement* w, int64_t ahead, const DotArgs& args,
          const void* const* rows, float* y) {
  const typename D::XElement* x[T];
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) x[t] = static_cast<const typename D::XElement*>(rows[t]);
  F sum[T][R] = {};
  AddProducts<D, R, T, true>(w, args.w_stride, ahead, x, args.cols, sum);
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    float* row = y + t * args.y_stride;
    if constexpr (R % 4 == 0) {
#pragma GCC unroll 16
      for (int r = 0; r < R; r += 4) {
        StoreAs(Sum4(sum[t][r], sum[t][r + 1], sum[t][r + 2], sum[t][r + 3]), row + r);
      }
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) row[r] = Sum(sum[t][r]);
    }
  }
}

// All rows with T tokens from token t on.
template <class D, int T>
void TokenTile(const DotArgs& args, int64_t t) {
  constexpr int kRows = RowsBeside(T);
  const auto* w = static_cast<const typename D::WElement*>(args.w);
  float* y = args.y + t * args.y_stride;
  int64_t r = 0;
  for (; r + kRows <= args.rows; r += kRows) {
    const int64_t ahead = r + 2 * kRows <= args.rows ? kRows * args.w_stride : 0;
    Tile<D, kRows, T>(w + r * args.w_stride, ahead, args, args.x + t, y + r);
  }
  for (; r < args.rows; ++r) Tile<D, 1, T>(w + r * args.w_stride, 0, args, args.x + t, y + r);
}

template <class D>
struct DotTiles {
  template <int T>
  void Run(int64_t t) const {
    TokenTile<D, T>(args, t);
  }
  const DotArgs& args;
};

// With more tokens than a tile takes, a few rows at a time, which stay in the cache from tile to
// tile.
template <class D>
void DotTiled(const DotArgs& args) {
  constexpr int64_t kBlock = 8;
  if (args.tokens <= kTileTokens) {
    return ForEachTokenTile<kTileTokens>(args.tokens, DotTiles<D>{args});
  }
  DotArgs block = args;
  for (int64_t r = 0; r < args.rows; r += kBlock) {
    block.w = static_cast<const typename D::WElement*>(args.w) + r * args.w_stride;
    block.rows = args.rows - r < kBlock ? args.rows - r : kBlock;
    block.y = args.y + r;
    ForEachTokenTile<kTileTokens>(args.tokens, DotTiles<D>{block});
  }
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_DOT_INL_H_
