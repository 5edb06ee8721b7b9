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
  // The compiler's own intrinsic copies the sum before and after.
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
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

// Sums over one group of columns, of one part of the rows of B blocks that lie `stride` bytes
// apart, with T tokens; A sums take turns where a single one would wait for itself.
struct Int8Group {
  static constexpr int kCols = 64;
  static constexpr int kBytes = kCols * kRowsOfBlock;
  static constexpr int kPartBytes = 2 * kLanes;  // between parts of the rows
  static constexpr int kZero = 0;

  template <int T, int B, int A>
  static ADAMOE_INLINE void Add(const uint8_t* w, int64_t stride, const int16_t* const* x,
                                I (*sum)[B][A]) {
#pragma GCC unroll 1
    for (int eight = 0; eight < kCols / 8; ++eight) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int pair = 4 * eight + i;
        S wk[B];
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b)
          wk[b] = WidenBytes(LoadAs<Bytes>(w + b * stride + pair * 2 * kRowsOfBlock));
        AddToAll<T, B, A>(wk, x, 2 * pair, i % A, sum);
      }
    }
  }

  template <int T, int B, int A>
  static ADAMOE_INLINE void AddToAll(const S* wk, const int16_t* const* x, int col, int turn,
                                     I (*sum)[B][A]) {
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const S xk = SplatPair(x[t] + col);
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) sum[t][b][turn] = AddPairs(wk[b], xk, sum[t][b][turn]);
    }
  }
};

struct Int4Group {
  static constexpr int kCols = 32;
  static constexpr int kBytes = kCols * kRowsOfBlock / 2;
  static constexpr int kPartBytes = 4 * kLanes;
  static constexpr int kZero = 8;  // what is added to each weight

  template <int T, int B, int A>
  static ADAMOE_INLINE void Add(const uint8_t* w, int64_t stride, const int16_t* const* x,
                                I (*sum)[B][A]) {
    using Words = uint16_t __attribute__((vector_size(4 * kLanes)));
#pragma GCC unroll 4
    for (int eight = 0; eight < kCols / 8; ++eight) {
      Words words[B];
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b)
        words[b] = LoadAs<Words>(w + b * stride + eight * 4 * kRowsOfBlock);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        S wk[B];
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b) wk[b] = reinterpret_cast<S>(words[b] >> (4 * i) & 15);
        Int8Group::AddToAll<T, B, A>(wk, x, 8 * eight + 2 * i, i % A, sum);
      }
    }
  }
};

// How far ahead of the products weights are asked for: the processor itself looks less far ahead
// than memory is away. Bytes.
constexpr int kAhead = 4096;

// B blocks of rows, `step` blocks apart, with T tokens. num_rows: of the last block.
template <class G, int B, int T>
void PackedTile(const DotArgs& args, const uint8_t* w, const uint16_t* scales, int64_t step,
                const void* const* rows, int64_t num_rows, float* y) {
  constexpr int kSums = T * B <= 2 ? 4 : T * B <= 6 ? 2 : 1;
  const int64_t cols = PaddedTo64(args.cols);
  const int64_t stride = step * (cols / G::kCols * G::kBytes);
  const int64_t scale_stride = step * (cols / G::kCols * kRowsOfBlock);
  F total[T][B][kParts] = {};
  for (int64_t k = 0; k < cols; k += G::kCols) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
#pragma GCC unroll 16
      for (int i = 0; i < G::kBytes; i += 64) __builtin_prefetch(w + b * stride + kAhead + i);
    }
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
      I sum[T][B][kSums];
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b) {
          sum[t][b][0] = I{} + zero[t];
#pragma GCC unroll 4
          for (int i = 1; i < kSums; ++i) sum[t][b][i] = I{};
        }
      }
      G::template Add<T, B, kSums>(w + part * G::kPartBytes, stride, x, sum);
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) {
        const F scale = FromBf16(LoadAs<H>(scales + b * scale_stride + part * kLanes));
#pragma GCC unroll 16
        for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
          for (int i = 1; i < kSums; ++i) sum[t][b][0] += sum[t][b][i];
          total[t][b][part] =
              Fma(__builtin_convertvector(sum[t][b][0], F), scale * x_scale[t], total[t][b][part]);
        }
      }
    }
    w += G::kBytes;
    scales += kRowsOfBlock;
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      float* out = y + t * args.y_stride + b * step * kRowsOfBlock;
      if (b + 1 < B || num_rows == kRowsOfBlock) {
#pragma GCC unroll 4
        for (int part = 0; part < kParts; ++part) Store(total[t][b][part], out + part * kLanes);
      } else {
        for (int64_t r = 0; r < num_rows; ++r) out[r] = total[t][b][r / kLanes][r % kLanes];
      }
    }
  }
}

// Tokens of the widest tile, and blocks of rows beside so many or a single one: as many sums as
// registers allow.
#if defined(__AVX512F__)
constexpr int kPackedTileTokens = 6;
constexpr int kBlocksOfMany = 2;
constexpr int kBlocksOfOne = 4;
#else
constexpr int kPackedTileTokens = 4;
constexpr int kBlocksOfMany = 1;
constexpr int kBlocksOfOne = 2;
#endif

// B blocks of rows, the first of them `first`, `step` apart, with all tokens.
template <class G, int B>
struct PackedBlocks {
  template <int T>
  void Run(int64_t t) const {
    const int64_t groups = PaddedTo64(args.cols) / G::kCols;
    const int64_t left = args.rows - (first + (B - 1) * step) * kRowsOfBlock;
    PackedTile<G, B, T>(args, static_cast<const uint8_t*>(args.w) + first * groups * G::kBytes,
                        args.w_scales + first * groups * kRowsOfBlock, step, args.x + t,
                        left < kRowsOfBlock ? left : kRowsOfBlock,
                        args.y + t * args.y_stride + first * kRowsOfBlock);
  }
  const DotArgs& args;
  int64_t first;
  int64_t step;
};

// Blocks are taken from B places of the panel, each read through from end to end: memory gives
// more to several readers than to one.
template <class G, int B, int kTileTokens>
void PackedDotPlaces(const DotArgs& args) {
  const int64_t blocks = (args.rows + kRowsOfBlock - 1) / kRowsOfBlock;
  const int64_t step = blocks / B;
  for (int64_t i = 0; i < step; ++i) {
    ForEachTokenTile<kTileTokens>(args.tokens, PackedBlocks<G, B>{args, i, step});
  }
  for (int64_t i = step * B; i < blocks; ++i) {
    ForEachTokenTile<kTileTokens>(args.tokens, PackedBlocks<G, 1>{args, i, 1});
  }
}

template <class G>
void PackedDotAll(const DotArgs& args) {
  if (args.tokens == 1) return PackedDotPlaces<G, kBlocksOfOne, 1>(args);
  PackedDotPlaces<G, kBlocksOfMany, kPackedTileTokens>(args);
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
