// Rows of numbers: conversions, norm, activation. Included only by kernels_<isa>.cc (see
// simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_ELEMENTWISE_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_ELEMENTWISE_INL_H_

#include "server/kernels/cpu/simd_inl.h"

namespace adamoe {
namespace {

template <class Row>
void WidenRow(const void* in, int64_t n, float* out) {
  const auto* p = static_cast<const typename Row::Element*>(in);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(Row::Read(p + i), out + i);
  if (i < n) StoreFirst(Row::ReadFirst(p + i, n - i), n - i, out + i);
}

void Widen(const void* in, DType dtype, int64_t n, float* out) {
  switch (dtype) {
    case DType::kFloat32:
      return WidenRow<F32Row>(in, n, out);
    case DType::kBFloat16:
      return WidenRow<Bf16Row>(in, n, out);
    case DType::kFloat16:
      return WidenRow<F16Row>(in, n, out);
    default:
      return;  // packed
  }
}

void Narrow(const float* in, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreAs(ToBf16(Load(in + i)), out + i);
  if (i == n) return;
  const H last = ToBf16(LoadFirst<F>(in + i, n - i));
  for (int64_t j = 0; i + j < n; ++j) out[i + j] = last[j];
}

void Round(const float* in, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(FromBf16(ToBf16(Load(in + i))), out + i);
  if (i < n) StoreFirst(FromBf16(ToBf16(LoadFirst<F>(in + i, n - i))), n - i, out + i);
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  const auto silu_mul = [](F g, F u) { return g / (1.0f + Exp(-g)) * u; };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(silu_mul(Load(gate + i), Load(up + i)), out + i);
  if (i == n) return;
  StoreFirst(silu_mul(LoadFirst<F>(gate + i, n - i), LoadFirst<F>(up + i, n - i)), n - i, out + i);
}

void AddScaled(float scale, const float* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(Fma(Splat(scale), Load(x + i), Load(y + i)), y + i);
  if (i == n) return;
  StoreFirst(Fma(Splat(scale), LoadFirst<F>(x + i, n - i), LoadFirst<F>(y + i, n - i)), n - i,
             y + i);
}

void RmsNorm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  F squares = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) squares = Fma(Load(x + i), Load(x + i), squares);
  if (i < n) {
    const F last = LoadFirst<F>(x + i, n - i);
    squares = Fma(last, last, squares);
  }
  const float scale = 1.0f / __builtin_sqrtf(Sum(squares) / static_cast<float>(n) + eps);
  for (i = 0; i + kLanes <= n; i += kLanes) Store(Load(x + i) * scale * Load(weight + i), out + i);
  for (; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_ELEMENTWISE_INL_H_
