#include "train/swiglu.h"

#include "train/vector_math.h"

namespace adamoe {
namespace {

// h13: [rows, 2 * inner]; out: [rows, inner].
template <typename T>
ADAMOE_FOR_EACH_ISA void Forward(const T* h13, int64_t rows, int64_t inner, T* out) {
  for (int64_t row = 0; row < rows; ++row, h13 += 2 * inner, out += inner) {
    for (int64_t i = 0; i < inner; ++i) {
      const auto h1 = Load(h13[i]);
      Store(h1 / (1 + Exp(-h1)) * Load(h13[inner + i]), &out[i]);
    }
  }
}

// h13, out: [rows, 2 * inner]; grad: [rows, inner]. silu'(x) = s + x s (1 - s), s the sigmoid of x.
template <typename T>
ADAMOE_FOR_EACH_ISA void Backward(const T* h13, const T* grad, int64_t rows, int64_t inner,
                                  T* out) {
  for (int64_t row = 0; row < rows; ++row, h13 += 2 * inner, grad += inner, out += 2 * inner) {
    for (int64_t i = 0; i < inner; ++i) {
      const auto h1 = Load(h13[i]);
      const auto g = Load(grad[i]);
      const auto sigmoid = 1 / (1 + Exp(-h1));
      Store(g * Load(h13[inner + i]) * sigmoid * (1 + h1 * (1 - sigmoid)), &out[i]);
      Store(g * h1 * sigmoid, &out[inner + i]);
    }
  }
}

}  // namespace

at::Tensor SwiGlu(const at::Tensor& h13) {
  const int64_t rows = h13.size(0);
  const int64_t inner = h13.size(1) / 2;
  if (!h13.is_cpu()) return at::silu(h13.narrow(1, 0, inner)) * h13.narrow(1, inner, inner);
  const at::Tensor out = at::empty({rows, inner}, h13.options());
  WithStorage(h13.scalar_type(), [&](auto type) {
    using T = decltype(type);
    Forward(Elements<T>(h13), rows, inner, MutableElements<T>(out));
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
  WithStorage(h13.scalar_type(), [&](auto type) {
    using T = decltype(type);
    Backward(Elements<T>(h13), Elements<T>(grad), h13.size(0), inner, MutableElements<T>(out));
  });
  return out;
}

}  // namespace adamoe
