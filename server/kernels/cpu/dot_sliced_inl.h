// The matrix product with many tokens: the same operations as in dot_inl.h, cut so that what is
// read again and again stays in the first-level cache.
//
// Weights are taken in slices of kSliceRows x kSliceCols. A slice is copied, and widened where it
// is narrow, and multiplied with all tokens; from slice to slice of the same rows, the vector of
// partial sums of each output waits in memory. An output sees the chain of operations that it sees
// in a tile of dot_inl.h: the same bits. Included only by kernels_<isa>.cc (see simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_DOT_SLICED_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_DOT_SLICED_INL_H_

#include "server/kernels/cpu/dot_inl.h"
#include "server/kernels/cpu/elementwise_inl.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/simd_inl.h"
#include "server/kernels/cpu/token_tiles_inl.h"

namespace adamoe {
namespace {

// A tile: rows of a slice and tokens.
#if defined(__AVX512F__)
constexpr int kSlicedRows = 4;
#else
constexpr int kSlicedRows = 2;
#endif
constexpr int kSlicedTokens = 6;

// Between rows of a slice, in bytes: not a multiple of what the cache maps to the same place.
constexpr int64_t kSliceStride = 4 * (kSliceCols + 16);

// How a slice is made of rows of type W, and multiplied.
template <class W>
struct WidenedSlice {
  using Product = WidenedDot<F32Row>;
  using WElement = typename W::Element;
  static void Copy(const WElement* in, int64_t n, float* out) { WidenRow<W>(in, n, out); }
};

#if defined(__AVX512BF16__)
struct Bf16Slice {
  using Product = Bf16Dot;
  using WElement = uint16_t;
  static void Copy(const uint16_t* in, int64_t n, uint16_t* out) {
    __builtin_memcpy(out, in, static_cast<size_t>(n) * sizeof(*in));
  }
};
#endif

// One slice: columns [first, first + n) of `rows` rows.
template <class P>
struct SliceRun {
  using WElement = typename P::WElement;
  using XElement = typename P::XElement;

  static constexpr int64_t kStride = kSliceStride / static_cast<int64_t>(sizeof(WElement));

  WElement* RowAt(int r) const { return slice + r * kStride; }

  // Rows [r, r + R) with tokens [t, t + T). kFirst: there are no partial sums yet.
  template <bool kFirst, int R, int T>
  void Tile(int r, int64_t t) const {
    float* partial = SumAt(r, t);
    const XElement* x[T];
    F sum[T][R];
#pragma GCC unroll 16
    for (int i = 0; i < T; ++i) {
      x[i] = static_cast<const XElement*>(args.x[t + i]) + first;
#pragma GCC unroll 16
      for (int j = 0; j < R; ++j) {
        sum[i][j] = kFirst ? F{} : Load(partial + (i * kSlicedRows + j) * kLanes);
      }
    }
    AddProducts<P, R, T, false>(RowAt(r), kStride, x, n, sum);
#pragma GCC unroll 16
    for (int i = 0; i < T; ++i) {
#pragma GCC unroll 16
      for (int j = 0; j < R; ++j) Store(sum[i][j], partial + (i * kSlicedRows + j) * kLanes);
    }
  }

  template <int T>
  void Run(int64_t t) const {
    first == 0 ? Tiles<true, T>(t) : Tiles<false, T>(t);
  }

  template <bool kFirst, int T>
  void Tiles(int64_t t) const {
    int r = 0;
    for (; r + kSlicedRows <= rows; r += kSlicedRows) Tile<kFirst, kSlicedRows, T>(r, t);
    for (; r < rows; ++r) Tile<kFirst, 1, T>(r, t);
  }

  // The vector of row `r` and token `t`.
  float* SumAt(int r, int64_t t) const {
    return sums + ((r / kSlicedRows * args.tokens + t) * kSlicedRows + r % kSlicedRows) * kLanes;
  }

  const DotArgs& args;
  WElement* slice;
  int rows;
  int64_t first;
  int64_t n;
  float* sums;  // at the slice's first row: [rows / kSlicedRows, tokens, kSlicedRows] vectors
};

// Adds up the partial sums of all outputs.
void AddLanes(const float* sums, const DotArgs& args) {
  for (int64_t r = 0; r < args.rows; r += kSlicedRows) {
    for (int64_t t = 0; t < args.tokens; ++t) {
      float* y = args.y + t * args.y_stride + r;
      if (kSlicedRows == 4 && r + 4 <= args.rows) {
        StoreAs(
            Sum4(Load(sums), Load(sums + kLanes), Load(sums + 2 * kLanes), Load(sums + 3 * kLanes)),
            y);
      } else {
        for (int64_t j = 0; j < kSlicedRows && r + j < args.rows; ++j) {
          y[j] = Sum(Load(sums + j * kLanes));
        }
      }
      sums += kSlicedRows * kLanes;
    }
  }
}

// S: a kind of slice, as above.
template <class S>
void DotSliced(const DotArgs& args) {
  using Product = typename S::Product;
  using SliceElement = typename Product::WElement;
  auto* slice = reinterpret_cast<SliceElement*>(args.scratch);
  float* sums = args.scratch + kSliceRows * kSliceStride / 4;
  const auto* w = static_cast<const typename S::WElement*>(args.w);
  for (int64_t first = 0; first < args.cols; first += kSliceCols) {
    const int64_t n = args.cols - first < kSliceCols ? args.cols - first : kSliceCols;
    for (int64_t row = 0; row < args.rows; row += kSliceRows) {
      const int rows =
          static_cast<int>(args.rows - row < kSliceRows ? args.rows - row : kSliceRows);
      const SliceRun<Product> run{args, slice, rows, first, n, sums + row * args.tokens * kLanes};
      for (int r = 0; r < rows; ++r) {
        S::Copy(w + (row + r) * args.w_stride + first, n, run.RowAt(r));
      }
      ForEachTokenTile<kSlicedTokens>(args.tokens, run);
    }
  }
  AddLanes(sums, args);
}

// With more tokens, reading slices beats reading rows as they lie: copies are paid for.
constexpr int64_t kMostTiledTokens = 24;
ADAMOE_INLINE bool IsSliced(const DotArgs& args) { return args.tokens > kMostTiledTokens; }

template <class W>
void DotWidened(const DotArgs& args) {
  IsSliced(args) ? DotSliced<WidenedSlice<W>>(args) : DotTiled<WidenedDot<W>>(args);
}

void Dot(const DotArgs& args) {
  switch (args.w_dtype) {
    case DType::kFloat32:
      return DotWidened<F32Row>(args);
    case DType::kBFloat16:
      return DotWidened<Bf16Row>(args);
    case DType::kFloat16:
      return DotWidened<F16Row>(args);
    default:
      return;  // packed
  }
}

#if defined(__AVX512BF16__)
void DotBf16(const DotArgs& args) {
  IsSliced(args) ? DotSliced<Bf16Slice>(args) : DotTiled<Bf16Dot>(args);
}
#endif

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_DOT_SLICED_INL_H_
