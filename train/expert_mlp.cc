// One autograd node for all experts. As single operations, the split of w1 and w3 and the stacked
// weights cost several passes over memory backwards; here each product writes where it belongs.
#include "train/expert_mlp.h"

#include <torch/csrc/autograd/custom_function.h>

#include "train/swiglu.h"

namespace adamoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Calls body(expert, first row, number of rows) for every expert that has rows.
template <typename Body>
void ForEachExpert(const std::vector<int64_t>& counts, const Body& body) {
  int64_t begin = 0;
  for (size_t expert = 0; expert < counts.size(); ++expert) {
    if (counts[expert] > 0) body(static_cast<int64_t>(expert), begin, counts[expert]);
    begin += counts[expert];
  }
}

struct ExpertMlpFunction : torch::autograd::Function<ExpertMlpFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& w13,
                          const Variable& w2, const std::vector<int64_t>& counts) {
    const at::Tensor h13 = at::empty({x.size(0), w13.size(1)}, x.options());
    ForEachExpert(counts, [&](int64_t expert, int64_t begin, int64_t rows) {
      at::Tensor part = h13.narrow(0, begin, rows);
      at::mm_out(part, x.narrow(0, begin, rows), w13.select(0, expert).t());
    });
    const at::Tensor inner = SwiGlu(h13);
    const at::Tensor y = at::empty_like(x);
    ForEachExpert(counts, [&](int64_t expert, int64_t begin, int64_t rows) {
      at::Tensor part = y.narrow(0, begin, rows);
      at::mm_out(part, inner.narrow(0, begin, rows), w2.select(0, expert).t());
    });
    context->save_for_backward({x, w13, w2, h13, inner});
    context->saved_data["counts"] = counts;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w13 = saved[1], &w2 = saved[2], &h13 = saved[3],
                     &inner = saved[4];
    const std::vector<int64_t> counts = context->saved_data["counts"].toIntVector();
    const at::Tensor grad_y = grads[0].contiguous();
    const at::Tensor grad_inner = at::empty_like(inner);
    const at::Tensor grad_w2 = at::zeros_like(w2);
    ForEachExpert(counts, [&](int64_t expert, int64_t begin, int64_t rows) {
      const at::Tensor grad = grad_y.narrow(0, begin, rows);
      at::Tensor part = grad_inner.narrow(0, begin, rows);
      at::mm_out(part, grad, w2.select(0, expert));
      at::Tensor weight = grad_w2.select(0, expert);
      at::mm_out(weight, grad.t(), inner.narrow(0, begin, rows));
    });
    const at::Tensor grad_h13 = SwiGluBackward(h13, grad_inner);
    const at::Tensor grad_x = at::empty_like(x);
    const at::Tensor grad_w13 = at::zeros_like(w13);
    ForEachExpert(counts, [&](int64_t expert, int64_t begin, int64_t rows) {
      const at::Tensor grad = grad_h13.narrow(0, begin, rows);
      at::Tensor part = grad_x.narrow(0, begin, rows);
      at::mm_out(part, grad, w13.select(0, expert));
      at::Tensor weight = grad_w13.select(0, expert);
      at::mm_out(weight, grad.t(), x.narrow(0, begin, rows));
    });
    return {grad_x, grad_w13, grad_w2, Variable()};
  }
};

}  // namespace

at::Tensor ExpertMlp(const at::Tensor& x, const at::Tensor& w13, const at::Tensor& w2,
                     const std::vector<int64_t>& counts) {
  return ExpertMlpFunction::apply(x, w13, w2, counts);
}

}  // namespace adamoe
