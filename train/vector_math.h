// For loops over numbers that the compiler vectorizes: the types they read and write, an
// exponential that does not stop it, and the mark that compiles a loop for each instruction set.
// Internal to the .cc files that are compiled with ADAMOE_VECTOR_SOURCES' options.
#ifndef ADAMOE_TRAIN_VECTOR_MATH_H_
#define ADAMOE_TRAIN_VECTOR_MATH_H_

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

// Before a function: it is compiled for each of these; the processor's own is chosen when the
// program is loaded. What it calls must be inlined into it.
#define ADAMOE_FOR_EACH_ISA \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))

namespace adamoe {

using BFloat16Bits = uint16_t;

inline float Load(BFloat16Bits bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
inline float Load(float x) { return x; }
inline double Load(double x) { return x; }

inline void Store(float x, BFloat16Bits* to) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  *to = static_cast<BFloat16Bits>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest even
}
inline void Store(float x, float* to) { *to = x; }
inline void Store(double x, double* to) { *to = x; }

// The type that T is computed in.
template <typename T>
using Wide = decltype(Load(T{}));
inline at::ScalarType WideType(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

// A polynomial, since a call of a library's would keep the loop scalar: 2^n * p(r) with |r| <=
// ln(2) / 2 and the Taylor polynomial of degree 6, whose error is below 2e-7 of the value.
inline float Exp(float x) {
  x = std::min(std::max(x, -87.0f), 87.0f);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}
inline double Exp(double x) { return std::exp(x); }

// The elements of a contiguous tensor on the CPU, stored as T. The tensor must outlive them.
template <typename T>
const T* Elements(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <typename T>
T* MutableElements(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Calls f with a value of the type that elements of `dtype` are stored in: f64, f32 or bf16.
template <typename F>
void WithStorage(at::ScalarType dtype, const F& f) {
  if (dtype == at::kBFloat16) return f(BFloat16Bits{});
  if (dtype == at::kDouble) return f(double{});
  TORCH_CHECK(dtype == at::kFloat, "expected f64, f32 or bf16, not ", dtype);
  f(float{});
}

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_VECTOR_MATH_H_
