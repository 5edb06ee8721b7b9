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

// How far ahead of its reading a tile asks for each of its rows, in bytes: the processor itself
// looks ahead within a page at most.
constexpr int64_t kAheadBytes = 2048;

// Adds the products of a tile, R rows `stride` elements apart and T tokens, n columns of each, to
// its sums. kAhead: it asks for weights further on in memory meanwhile.
template <class D, int R, int T, bool kAhead>
ADAMOE_INLINE void AddProducts(const typename D::WElement* w, int64_t stride,
                               const typename D::XElement* const* x, int64_t n, F (*sum)[R]) {
  constexpr int64_t kAheadElements =
      kAheadBytes / static_cast<int64_t>(sizeof(typename D::WElement));
  int64_t k = 0;
  for (; k + D::kStep <= n; k += D::kStep) {
    decltype(D::ReadW(w)) wk[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      if constexpr (kAhead) __builtin_prefetch(w + r * stride + k + kAheadElements);
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

// Some rows of a product: `count` of them, `step` apart.
struct RowGroup {
  int64_t first;
  int64_t step;
  int count;
};

// One tile: R rows of the group from its j-th on, T tokens from token t on.
template <class D, int R, int T>
void Tile(const DotArgs& args, const RowGroup& group, int j, int64_t t) {
  const typename D::XElement* x[T];
#pragma GCC unroll 16
  for (int i = 0; i < T; ++i) x[i] = static_cast<const typename D::XElement*>(args.x[t + i]);
  const int64_t row = group.first + j * group.step;
  const auto* w = static_cast<const typename D::WElement*>(args.w) + row * args.w_stride;
  F sum[T][R] = {};
  AddProducts<D, R, T, true>(w, group.step * args.w_stride, x, args.cols, sum);
#pragma GCC unroll 16
  for (int i = 0; i < T; ++i) {
    float* y = args.y + (t + i) * args.y_stride + row;
    if constexpr (R % 4 == 0) {
#pragma GCC unroll 16
      for (int r = 0; r < R; r += 4) {
        const Quad sums = Sum4(sum[i][r], sum[i][r + 1], sum[i][r + 2], sum[i][r + 3]);
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) y[(r + q) * group.step] = sums[q];
      }
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) y[r * group.step] = Sum(sum[i][r]);
    }
  }
}

// The group's rows with every tile of tokens.
template <class D>
struct GroupTiles {
  template <int T>
  void Run(int64_t t) const {
    constexpr int kRows = RowsBeside(T);
    int j = 0;
    for (; j + kRows <= group.count; j += kRows) Tile<D, kRows, T>(args, group, j, t);
    for (; j < group.count; ++j) Tile<D, 1, T>(args, group, j, t);
  }
  const DotArgs& args;
  const RowGroup group;
};

// A few rows at a time, which stay in the cache from tile to tile of tokens. They are taken from as
// many places of the panel, each of which is then read through from its first byte to its last:
// several long streams, which the processor's own look-ahead follows.
template <class D>
void DotTiled(const DotArgs& args) {
  constexpr int kStreams = 8;
  const int64_t step = args.rows / kStreams;
  for (int64_t r = 0; r < step; ++r) {
    ForEachTokenTile<kTileTokens>(args.tokens, GroupTiles<D>{args, {r, step, kStreams}});
  }
  const int64_t done = step * kStreams;
  const auto left = static_cast<int>(args.rows - done);
  ForEachTokenTile<kTileTokens>(args.tokens, GroupTiles<D>{args, {done, 1, left}});
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_DOT_INL_H_
