// Plain loops that the compiler vectorizes, once for each instruction set in ADAMOE_FOR_EACH_ISA;
// the processor's own is chosen when the program is loaded. The exponential is a polynomial, since
// a call of a library's would keep the loop scalar: 2^n * p(r) with |r| <= ln(2) / 2 and the Taylor
// polynomial of degree 6, whose error is below 2e-7 of the value.
#include "train/swiglu.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#define ADAMOE_FOR_EACH_ISA \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))

namespace adamoe {
namespace {

using BFloat16Bits = uint16_t;

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

inline float Load(BFloat16Bits bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
inline float Load(float x) { return x; }
inline double Load(double x) { return x; }

inline void Store(float x, BFloat16Bits* to) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  *to = static_cast<BFloat16Bits>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest even
}
inline void Store(float x, float* to) { *to = x; }
inline void Store(double x, double* to) { *to = x; }

// One row. h13: [2 * inner]; out: [inner].
template <typename T>
__attribute__((always_inline)) inline void Row(const T* h13, T* out, int64_t inner) {
  for (int64_t i = 0; i < inner; ++i) {
    const auto h1 = Load(h13[i]);
    Store(h1 / (1 + Exp(-h1)) * Load(h13[inner + i]), &out[i]);
  }
}

// One row. h13, out: [2 * inner]; grad: [inner]. silu'(x) = s + x s (1 - s), s the sigmoid of x.
template <typename T>
__attribute__((always_inline)) inline void RowBackward(const T* h13, const T* grad, T* out,
                                                       int64_t inner) {
  for (int64_t i = 0; i < inner; ++i) {
    const auto h1 = Load(h13[i]);
    const auto g = Load(grad[i]);
    const auto sigmoid = 1 / (1 + Exp(-h1));
    Store(g * Load(h13[inner + i]) * sigmoid * (1 + h1 * (1 - sigmoid)), &out[i]);
    Store(g * h1 * sigmoid, &out[inner + i]);
  }
}

ADAMOE_FOR_EACH_ISA void Forward(const BFloat16Bits* h13, BFloat16Bits* out, int64_t rows,
                                 int64_t inner) {
  for (int64_t row = 0; row < rows; ++row) Row(h13 + row * 2 * inner, out + row * inner, inner);
}

ADAMOE_FOR_EACH_ISA void Forward(const float* h13, float* out, int64_t rows, int64_t inner) {
  for (int64_t row = 0; row < rows; ++row) Row(h13 + row * 2 * inner, out + row * inner, inner);
}

void Forward(const double* h13, double* out, int64_t rows, int64_t inner) {
  for (int64_t row = 0; row < rows; ++row) Row(h13 + row * 2 * inner, out + row * inner, inner);
}

ADAMOE_FOR_EACH_ISA void Backward(const BFloat16Bits* h13, const BFloat16Bits* grad,
                                  BFloat16Bits* out, int64_t rows, int64_t inner) {
  for (int64_t row = 0; row < rows; ++row) {
    RowBackward(h13 + row * 2 * inner, grad + row * inner, out + row * 2 * inner, inner);
  }
}

ADAMOE_FOR_EACH_ISA void Backward(const float* h13, const float* grad, float* out, int64_t rows,
                                  int64_t inner) {
  for (int64_t row = 0; row < rows; ++row) {
    RowBackward(h13 + row * 2 * inner, grad + row * inner, out + row * 2 * inner, inner);
  }
}

void Backward(const double* h13, const double* grad, double* out, int64_t rows, int64_t inner) {
  for (int64_t row = 0; row < rows; ++row) {
    RowBackward(h13 + row * 2 * inner, grad + row * inner, out + row * 2 * inner, inner);
  }
}

// Calls f with a null pointer of the type that elements of `dtype` are stored in.
template <typename F>
void WithStorage(at::ScalarType dtype, const F& f) {
  if (dtype == at::kBFloat16) return f(static_cast<BFloat16Bits*>(nullptr));
  if (dtype == at::kDouble) return f(static_cast<double*>(nullptr));
  TORCH_CHECK(dtype == at::kFloat, "SwiGlu: f64, f32 or bf16");
  f(static_cast<float*>(nullptr));
}

}  // namespace

at::Tensor SwiGlu(const at::Tensor& h13) {
  const int64_t rows = h13.size(0);
  const int64_t inner = h13.size(1) / 2;
  if (!h13.is_cpu()) return at::silu(h13.narrow(1, 0, inner)) * h13.narrow(1, inner, inner);
  const at::Tensor out = at::empty({rows, inner}, h13.options());
  WithStorage(h13.scalar_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    Forward(static_cast<const T*>(h13.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()),
            rows, inner);
  });
  return out;
}

at::Tensor SwiGluBackward(const at::Tensor& h13, const at::Tensor& grad) {
  const int64_t inner = grad.size(1);
  if (!h13.is_cpu()) {
    const at::Tensor h1 = h13.narrow(1, 0, inner);
    return at::cat({at::silu_backward(grad * h13.narrow(1, inner, inner), h1), grad * at::silu(h1)},
                   1);
  }
  const at::Tensor out = at::empty_like(h13);
  WithStorage(h13.scalar_type(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    Backward(static_cast<const T*>(h13.const_data_ptr()),
             static_cast<const T*>(grad.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()),
             h13.size(0), inner);
  });
  return out;
}

}  // namespace adamoe
