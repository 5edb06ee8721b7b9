// One vector of floats of the instruction set a file is compiled for, and what the kernels need to
// do with it.
//
// Included only by kernels_<isa>.cc. Everything stands in an unnamed namespace: the same names
// compiled with different target flags must not be merged by the linker, or a plain processor would
// be handed AVX-512 code. For the same reason these files call no inline functions from elsewhere.
#ifndef ADAMOE_SERVER_KERNELS_CPU_SIMD_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_SIMD_INL_H_

#include <cstdint>

#include "server/base/dtype.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define ADAMOE_INLINE inline __attribute__((always_inline))

namespace adamoe {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using F = float __attribute__((vector_size(4 * kLanes)));
using U = uint32_t __attribute__((vector_size(4 * kLanes)));
using I = int32_t __attribute__((vector_size(4 * kLanes)));
using H = uint16_t __attribute__((vector_size(2 * kLanes)));
using Quad = float __attribute__((vector_size(16)));

template <class V>
ADAMOE_INLINE V LoadAs(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <class V>
ADAMOE_INLINE void StoreAs(V v, void* p) {
  __builtin_memcpy(p, &v, sizeof(v));
}

ADAMOE_INLINE F Load(const float* p) { return LoadAs<F>(p); }
ADAMOE_INLINE void Store(F v, float* p) { StoreAs(v, p); }
ADAMOE_INLINE F Splat(float x) { return F{} + x; }
ADAMOE_INLINE F Max(F a, F b) { return a > b ? a : b; }

// Holds a loaded vector in a register: the compiler may otherwise load it anew in every operation
// that uses it, and loads are what the products have most of.
template <class V>
ADAMOE_INLINE void KeepInRegister(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__AVX2__)
  asm("" : "+x"(v));
#else
  static_cast<void>(v);
#endif
}

// The first n < kLanes elements, then zeros. Reads nothing past them.
template <class V, class T>
ADAMOE_INLINE V LoadFirst(const T* p, int64_t n) {
#if defined(__AVX512F__)
  const auto mask = static_cast<__mmask16>((1u << n) - 1u);
  if constexpr (sizeof(T) == 4) {
    return reinterpret_cast<V>(_mm512_maskz_loadu_ps(mask, p));
  } else {
    return reinterpret_cast<V>(_mm256_maskz_loadu_epi16(mask, p));
  }
#else
  V v = {};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

ADAMOE_INLINE void StoreFirst(F v, int64_t n, float* p) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

// a * b + c.
ADAMOE_INLINE F Fma(F a, F b, F c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// The compiler's own conversion between vectors of different widths takes them apart.
ADAMOE_INLINE U Widened(H v) {
#if defined(__AVX512F__)
  return reinterpret_cast<U>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(v)));
#elif defined(__AVX2__)
  return reinterpret_cast<U>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(v)));
#else
  return __builtin_convertvector(v, U);
#endif
}

ADAMOE_INLINE H Narrowed(U v) {
#if defined(__AVX512F__)
  return reinterpret_cast<H>(_mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(v)));
#else
  return __builtin_convertvector(v, H);
#endif
}

ADAMOE_INLINE F FromBf16(H bits) { return reinterpret_cast<F>(Widened(bits) << 16); }

// Ties to even; NaN stays NaN.
ADAMOE_INLINE H ToBf16(F value) {
  const U bits = reinterpret_cast<U>(value);
  const U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U nan = (bits >> 16) | 0x40u;
  return Narrowed((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

ADAMOE_INLINE F FromF16(H bits) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(bits));
#elif defined(__AVX2__)
  return _mm256_cvtph_ps(reinterpret_cast<__m128i>(bits));
#else
  F v;
  for (int i = 0; i < kLanes; ++i) v[i] = FloatFromF16(bits[i]);
  return v;
#endif
}

// Adds up lanes 4 apart.
ADAMOE_INLINE Quad Fold(F v) {
#if defined(__AVX512F__)
  using Half = float __attribute__((vector_size(32)));
  const Half half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) +
         __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX2__)
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  return v;
#endif
}

ADAMOE_INLINE float Sum(F v) {
  const Quad q = Fold(v);
  return (q[0] + q[2]) + (q[1] + q[3]);
}

// Sum of each of four, in the same order of additions as Sum.
ADAMOE_INLINE Quad Sum4(F a, F b, F c, F d) {
#if defined(__AVX512F__)
  // Halves of two vectors side by side, then quarters of four: an addition folds several vectors.
  const auto halves = [](F v, F w) {
    return __builtin_shufflevector(v, w, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           __builtin_shufflevector(v, w, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30,
                                   31);
  };
  const F ab = halves(a, b), cd = halves(c, d);
  F sums =
      __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
      __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  sums += __builtin_shufflevector(sums, sums, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  sums += __builtin_shufflevector(sums, sums, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return __builtin_shufflevector(sums, sums, 0, 4, 8, 12);
#else
  const Quad qa = Fold(a), qb = Fold(b), qc = Fold(c), qd = Fold(d);
  const Quad ab =
      __builtin_shufflevector(qa, qb, 0, 4, 1, 5) + __builtin_shufflevector(qa, qb, 2, 6, 3, 7);
  const Quad cd =
      __builtin_shufflevector(qc, qd, 0, 4, 1, 5) + __builtin_shufflevector(qc, qd, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
#endif
}

ADAMOE_INLINE float MaxLane(F v) {
  float best = v[0];
  for (int i = 1; i < kLanes; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

// e^x to about 2 units in the last place, for x clamped to [-87, 88]; NaN stays NaN. x = n ln 2 + r
// with |r| <= ln 2 / 2, and e^r by its series. Adding 1.5 * 2^23 leaves n in the low bits of the
// sum.
ADAMOE_INLINE F Exp(F x) {
  x = x < -87.0f ? Splat(-87.0f) : x;
  x = x > 88.0f ? Splat(88.0f) : x;
  const F shifted = Fma(x, Splat(1.44269504f), Splat(12582912.0f));
  const F n = shifted - 12582912.0f;
  F r = Fma(n, Splat(-0.693359375f), x);
  r = Fma(n, Splat(2.12194440e-4f), r);
  F sum = Splat(1.0f / 5040);
  sum = Fma(sum, r, Splat(1.0f / 720));
  sum = Fma(sum, r, Splat(1.0f / 120));
  sum = Fma(sum, r, Splat(1.0f / 24));
  sum = Fma(sum, r, Splat(1.0f / 6));
  sum = Fma(sum, r, Splat(0.5f));
  sum = Fma(sum, r, Splat(1.0f));
  sum = Fma(sum, r, Splat(1.0f));
  const U scale = (reinterpret_cast<U>(shifted) + 127u) << 23;
  return sum * reinterpret_cast<F>(scale);
}

// How rows of each type are read as float32.
struct F32Row {
  using Element = float;
  static ADAMOE_INLINE F Read(const float* p) { return Load(p); }
  static ADAMOE_INLINE F ReadFirst(const float* p, int64_t n) { return LoadFirst<F>(p, n); }
};
struct Bf16Row {
  using Element = uint16_t;
  static ADAMOE_INLINE F Read(const uint16_t* p) { return FromBf16(LoadAs<H>(p)); }
  static ADAMOE_INLINE F ReadFirst(const uint16_t* p, int64_t n) {
    return FromBf16(LoadFirst<H>(p, n));
  }
};
struct F16Row {
  using Element = uint16_t;
  static ADAMOE_INLINE F Read(const uint16_t* p) { return FromF16(LoadAs<H>(p)); }
  static ADAMOE_INLINE F ReadFirst(const uint16_t* p, int64_t n) {
    return FromF16(LoadFirst<H>(p, n));
  }
};

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_SIMD_INL_H_
