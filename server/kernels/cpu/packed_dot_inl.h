// The product of packed weights (kernels/packed.h) with activations in 16-bit integers: sums of
// integers within a group, which are exact, and of floats from group to group.
//
// The lanes of a vector are rows of a block, so that an output is one lane, fed in order of the
// groups: one token alone gives the same bits as a batch. Included only by kernels_<isa>.cc (see
// simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_PACKED_DOT_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_PACKED_DOT_INL_H_

#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/simd_inl.h"
#include "server/kernels/cpu/token_tiles_inl.h"

namespace adamoe {
namespace {

using S = int16_t __attribute__((vector_size(4 * kLanes)));
using Bytes = int8_t __attribute__((vector_size(2 * kLanes)));

constexpr int kRowsOfBlock = 16;
constexpr int kParts = kRowsOfBlock / kLanes;  // vectors of a block's rows

ADAMOE_INLINE int64_t PaddedTo64(int64_t cols) { return (cols + 63) / 64 * 64; }

ADAMOE_INLINE S WidenBytes(Bytes v) {
#if defined(__AVX512F__)
  return reinterpret_cast<S>(_mm512_cvtepi8_epi16(reinterpret_cast<__m256i>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<S>(_mm256_cvtepi8_epi16(reinterpret_cast<__m128i>(v)));
#else
  return __builtin_convertvector(v, S);
#endif
}

// sum[i] += a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1].
ADAMOE_INLINE I AddPairs(S a, S b, I sum) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<I>(_mm512_dpwssd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512F__)
  return sum + reinterpret_cast<I>(
                   _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return sum + reinterpret_cast<I>(
                   _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  for (int i = 0; i < kLanes; ++i) sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sum;
#endif
}

// x[0], x[1] in every pair of lanes.
ADAMOE_INLINE S SplatPair(const int16_t* x) {
  return reinterpret_cast<S>(I{} + LoadAs<int32_t>(x));
}

// Sums over one group of columns, of one part of a block's rows, with T tokens; A sums take turns
// where a single one would wait for itself.
struct Int8Group {
  static constexpr int kCols = 64;
  static constexpr int kBytes = kCols * kRowsOfBlock;
  static constexpr int kPartBytes = 2 * kLanes;  // between parts of the rows
  static constexpr int kZero = 0;

  template <int T, int A>
  static ADAMOE_INLINE void Add(const uint8_t* w, const int16_t* const* x, I (*sum)[A]) {
#pragma GCC unroll 1
    for (int eight = 0; eight < kCols / 8; ++eight) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int pair = 4 * eight + i;
        const S wk = WidenBytes(LoadAs<Bytes>(w + pair * 2 * kRowsOfBlock));
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t)
          sum[t][i % A] = AddPairs(wk, SplatPair(x[t] + 2 * pair), sum[t][i % A]);
      }
    }
  }
};

struct Int4Group {
  static constexpr int kCols = 32;
  static constexpr int kBytes = kCols * kRowsOfBlock / 2;
  static constexpr int kPartBytes = 4 * kLanes;
  static constexpr int kZero = 8;  // what is added to each weight

  template <int T, int A>
  static ADAMOE_INLINE void Add(const uint8_t* w, const int16_t* const* x, I (*sum)[A]) {
    using Words = uint16_t __attribute__((vector_size(4 * kLanes)));
#pragma GCC unroll 4
    for (int eight = 0; eight < kCols / 8; ++eight) {
      const Words words = LoadAs<Words>(w + eight * 4 * kRowsOfBlock);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const S wk = reinterpret_cast<S>(words >> (4 * i) & 15);
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t)
          sum[t][i % A] = AddPairs(wk, SplatPair(x[t] + 8 * eight + 2 * i), sum[t][i % A]);
      }
    }
  }
};

// How far ahead of the products weights are asked for: the processor itself looks less far ahead
// than memory is away. Bytes.
constexpr int kAhead = 4096;

// One block of rows with T tokens.
template <class G, int T>
void PackedTile(const DotArgs& args, const uint8_t* w, const uint16_t* scales,
                const void* const* rows, int64_t num_rows, float* y) {
  constexpr int kSums = T == 1 ? 4 : T <= 4 ? 2 : 1;
  const int64_t cols = PaddedTo64(args.cols);
  F total[T][kParts] = {};
  for (int64_t k = 0; k < cols; k += G::kCols) {
#pragma GCC unroll 16
    for (int i = 0; i < G::kBytes; i += 64) __builtin_prefetch(w + kAhead + i);
    const int16_t* x[T];
    float x_scale[T];
    int32_t zero[T];
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const auto* row = static_cast<const uint8_t*>(rows[t]);
      x[t] = reinterpret_cast<const int16_t*>(row) + k;
      x_scale[t] = LoadAs<float>(row + 2 * cols + k / 64 * 4);
      zero[t] = G::kZero == 0 ? 0 : -G::kZero * LoadAs<int32_t>(row + 2 * cols + cols / 16 + k / 8);
    }
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) {
      I sum[T][kSums];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        sum[t][0] = I{} + zero[t];
#pragma GCC unroll 4
        for (int i = 1; i < kSums; ++i) sum[t][i] = I{};
      }
      G::template Add<T, kSums>(w + part * G::kPartBytes, x, sum);
      const F scale = FromBf16(LoadAs<H>(scales + part * kLanes));
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
        for (int i = 1; i < kSums; ++i) sum[t][0] += sum[t][i];
        total[t][part] =
            Fma(__builtin_convertvector(sum[t][0], F), scale * x_scale[t], total[t][part]);
      }
    }
    w += G::kBytes;
    scales += kRowsOfBlock;
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
    float* out = y + t * args.y_stride;
    if (num_rows == kRowsOfBlock) {
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) Store(total[t][part], out + part * kLanes);
    } else {
      for (int64_t r = 0; r < num_rows; ++r) out[r] = total[t][r / kLanes][r % kLanes];
    }
  }
}

#if defined(__AVX512F__)
constexpr int kPackedTileTokens = 8;
#else
constexpr int kPackedTileTokens = 4;
#endif

// All rows with T tokens from token t on.
template <class G, int T>
void PackedTokenTile(const DotArgs& args, int64_t t) {
  const int64_t groups = PaddedTo64(args.cols) / G::kCols;
  const auto* w = static_cast<const uint8_t*>(args.w);
  const uint16_t* scales = args.w_scales;
  for (int64_t r = 0; r < args.rows; r += kRowsOfBlock) {
    const int64_t left = args.rows - r;
    PackedTile<G, T>(args, w, scales, args.x + t, left < kRowsOfBlock ? left : kRowsOfBlock,
                     args.y + t * args.y_stride + r);
    w += groups * G::kBytes;
    scales += groups * kRowsOfBlock;
  }
}

template <class G>
struct PackedDotTiles {
  template <int T>
  void Run(int64_t t) const {
    PackedTokenTile<G, T>(args, t);
  }
  const DotArgs& args;
};

template <class G>
void PackedDotAll(const DotArgs& args) {
  ForEachTokenTile<kPackedTileTokens>(args.tokens, PackedDotTiles<G>{args});
}

void PackedDot(const DotArgs& args) {
  if (args.w_dtype == DType::kInt8) {
    PackedDotAll<Int8Group>(args);
  } else {
    PackedDotAll<Int4Group>(args);
  }
}

// [first, first + n) of a row of activations, first a multiple of 64, in the form that
// kernel_table.h describes; zeros up to the next multiple of 64.
void ToIntegers(const float* x, int64_t first, int64_t n, int64_t cols, void* row) {
  constexpr float kLargest = 32767.0f;
  constexpr float kSmallest = 1e-30f;  // a scale's inverse must be finite
  const int64_t padded = PaddedTo64(cols);
  auto* bytes = static_cast<uint8_t*>(row);
  for (int64_t k = 0; k < n; k += 64) {
    F v[64 / kLanes];
    F largest = {};
    F zero = {};  // NaN where a value is not finite
#pragma GCC unroll 16
    for (int i = 0; i < 64 / kLanes; ++i) {
      const int64_t left = n - k - i * kLanes;
      v[i] = left >= kLanes ? Load(x + k + i * kLanes)
             : left > 0     ? LoadFirst<F>(x + k + i * kLanes, left)
                            : F{};
      largest = Max(Max(v[i], -v[i]), largest);
      zero += v[i] * 0.0f;
    }
    const float peak = MaxLane(largest) + Sum(zero);
    if (peak != peak) {
#pragma GCC unroll 16
      for (int i = 0; i < 64 / kLanes; ++i) v[i] = F{};
    }
    const float scale = peak < kSmallest ? 0.0f : peak / kLargest;
    const float inverse = peak >= kSmallest ? kLargest / peak : 0.0f;
    const int64_t col = first + k;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      I sum = {};
#pragma GCC unroll 8
      for (int i = 0; i < 32 / kLanes; ++i) {
        // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
        const F shifted = v[half * (32 / kLanes) + i] * inverse + 12582912.0f;
        const I q = reinterpret_cast<I>(shifted) - 0x4b400000;
        StoreAs(Narrowed(reinterpret_cast<U>(q)), bytes + 2 * (col + half * 32 + i * kLanes));
        sum += q;
      }
      int32_t sums = 0;
      for (int i = 0; i < kLanes; ++i) sums += sum[i];
      StoreAs(sums, bytes + 2 * padded + padded / 16 + (col + half * 32) / 8);
    }
    StoreAs(scale, bytes + 2 * padded + col / 16);
  }
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_PACKED_DOT_INL_H_
