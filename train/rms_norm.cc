#include "train/rms_norm.h"

#include <torch/csrc/autograd/custom_function.h>

#include "train/vector_math.h"

namespace adamoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// scales: [rows], what each row is multiplied with.
template <typename T>
ADAMOE_FOR_EACH_ISA void Forward(const T* x, const T* weight, double epsilon, int64_t rows,
                                 int64_t hidden, T* scales, T* out) {
  for (int64_t row = 0; row < rows; ++row, x += hidden, out += hidden) {
    T squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < hidden; ++i) squares += x[i] * x[i];
    const T scale = 1 / std::sqrt(squares / static_cast<T>(hidden) + static_cast<T>(epsilon));
    for (int64_t i = 0; i < hidden; ++i) out[i] = x[i] * scale * weight[i];
    scales[row] = scale;
  }
}

// With y = s x w, s depending on x: dx = s g w - x s^3 mean(g w x), dw = sum over rows of g s x.
// grad_weight: [hidden], added to.
template <typename T>
ADAMOE_FOR_EACH_ISA void Backward(const T* x, const T* weight, const T* scales, const T* grad,
                                  int64_t rows, int64_t hidden, T* grad_x, T* grad_weight) {
  for (int64_t row = 0; row < rows; ++row, x += hidden, grad += hidden, grad_x += hidden) {
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < hidden; ++i) dot += grad[i] * weight[i] * x[i];
    const T scale = scales[row];
    const T along_x = scale * scale * scale * dot / static_cast<T>(hidden);
    for (int64_t i = 0; i < hidden; ++i) {
      grad_x[i] = scale * grad[i] * weight[i] - along_x * x[i];
      grad_weight[i] += grad[i] * scale * x[i];
    }
  }
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  // x: contiguous.
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight,
                          double epsilon) {
    const int64_t hidden = weight.size(0);
    const int64_t rows = x.numel() / hidden;
    const at::Tensor scales = at::empty({rows}, x.options());
    const at::Tensor out = at::empty_like(x);
    WithStorage(x.scalar_type(), [&](auto type) {
      using T = Wide<decltype(type)>;
      Forward(Elements<T>(x), Elements<T>(weight), epsilon, rows, hidden,
              MutableElements<T>(scales), MutableElements<T>(out));
    });
    context->save_for_backward({x, weight, scales});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scales = saved[2];
    const at::Tensor grad = grads[0].contiguous();
    const at::Tensor grad_x = at::empty_like(x);
    const at::Tensor grad_weight = at::zeros_like(weight);
    WithStorage(x.scalar_type(), [&](auto type) {
      using T = Wide<decltype(type)>;
      Backward(Elements<T>(x), Elements<T>(weight), Elements<T>(scales), Elements<T>(grad),
               scales.numel(), weight.size(0), MutableElements<T>(grad_x),
               MutableElements<T>(grad_weight));
    });
    return {grad_x, grad_weight, Variable()};
  }
};

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  TORCH_CHECK(x.scalar_type() == weight.scalar_type() && x.scalar_type() != at::kBFloat16,
              "RmsNorm: x and weight must both be f32 or f64");
  if (!x.is_cpu()) {
    return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + epsilon) * weight;
  }
  return RmsNormFunction::apply(x.contiguous(), weight.contiguous(), epsilon);
}

}  // namespace adamoe
