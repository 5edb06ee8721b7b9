#include "train/row_sums.h"

#include "train/vector_math.h"

namespace adamoe {
namespace {

constexpr int64_t kPiece = 256;  // columns summed at a time, on the stack

struct Sizes {
  int64_t tokens, picks, num_rows, hidden;
};

// weights: null for all 1.
template <typename T>
ADAMOE_FOR_EACH_ISA void Forward(const T* y, const int64_t* row_of_pick, const Wide<T>* weights,
                                 const Sizes sizes, T* out) {
  for (int64_t token = 0; token < sizes.tokens; ++token, out += sizes.hidden) {
    for (int64_t begin = 0; begin < sizes.hidden; begin += kPiece) {
      const int64_t width = std::min(kPiece, sizes.hidden - begin);
      Wide<T> sums[kPiece] = {};
      for (int64_t pick = token * sizes.picks; pick < (token + 1) * sizes.picks; ++pick) {
        if (row_of_pick[pick] >= sizes.num_rows) continue;
        const T* row = y + row_of_pick[pick] * sizes.hidden + begin;
        const Wide<T> weight = weights == nullptr ? 1 : weights[pick];
        for (int64_t i = 0; i < width; ++i) sums[i] += weight * Load(row[i]);
      }
      for (int64_t i = 0; i < width; ++i) Store(sums[i], &out[begin + i]);
    }
  }
}

// grad_y, grad_weights: zero before.
template <typename T>
ADAMOE_FOR_EACH_ISA void Backward(const T* grad, const T* y, const int64_t* row_of_pick,
                                  const Wide<T>* weights, const Sizes sizes, T* grad_y,
                                  Wide<T>* grad_weights) {
  for (int64_t token = 0; token < sizes.tokens; ++token, grad += sizes.hidden) {
    for (int64_t pick = token * sizes.picks; pick < (token + 1) * sizes.picks; ++pick) {
      if (row_of_pick[pick] >= sizes.num_rows) continue;
      const T* row = y + row_of_pick[pick] * sizes.hidden;
      T* grad_row = grad_y + row_of_pick[pick] * sizes.hidden;
      const Wide<T> weight = weights[pick];
      Wide<T> dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < sizes.hidden; ++i) dot += Load(grad[i]) * Load(row[i]);
      for (int64_t i = 0; i < sizes.hidden; ++i) Store(weight * Load(grad[i]), &grad_row[i]);
      grad_weights[pick] = dot;
    }
  }
}

Sizes SizesOf(const at::Tensor& y, const at::Tensor& row_of_pick) {
  return {row_of_pick.size(0), row_of_pick.size(1), y.size(0), y.size(1)};
}

// For other devices: [tokens, k, hidden], zeros where a pick has no row.
at::Tensor PickedRows(const at::Tensor& y, const at::Tensor& row_of_pick) {
  return at::cat({y, at::zeros({1, y.size(1)}, y.options())})
      .index_select(0, row_of_pick.view(-1))
      .view({row_of_pick.size(0), row_of_pick.size(1), y.size(1)});
}

}  // namespace

at::Tensor SumPickedRows(const at::Tensor& y, const at::Tensor& row_of_pick,
                         const at::Tensor& weights) {
  if (!y.is_cpu()) {
    const at::Tensor rows = PickedRows(y, row_of_pick);
    if (!weights.defined()) return rows.sum(1);
    return (rows * weights.unsqueeze(2)).sum(1).to(y.scalar_type());
  }
  const at::Tensor out = at::empty({row_of_pick.size(0), y.size(1)}, y.options());
  WithStorage(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    Forward(Elements<T>(y), Elements<int64_t>(row_of_pick),
            weights.defined() ? Elements<Wide<T>>(weights) : nullptr, SizesOf(y, row_of_pick),
            MutableElements<T>(out));
  });
  return out;
}

PickedRowGradients SumPickedRowsBackward(const at::Tensor& grad, const at::Tensor& y,
                                         const at::Tensor& row_of_pick, const at::Tensor& weights) {
  PickedRowGradients grads;
  if (!y.is_cpu()) {
    const at::Tensor weighted = (grad.unsqueeze(1) * weights.unsqueeze(2)).to(y.scalar_type());
    grads.y = at::zeros({y.size(0) + 1, y.size(1)}, y.options())
                  .index_copy(0, row_of_pick.view(-1), weighted.flatten(0, 1))
                  .narrow(0, 0, y.size(0));
    grads.weights =
        (PickedRows(y, row_of_pick) * grad.unsqueeze(1)).sum(2, false, weights.scalar_type());
    return grads;
  }
  grads.y = at::zeros_like(y);
  grads.weights = at::zeros_like(weights);
  WithStorage(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    Backward(Elements<T>(grad), Elements<T>(y), Elements<int64_t>(row_of_pick),
             Elements<Wide<T>>(weights), SizesOf(y, row_of_pick), MutableElements<T>(grads.y),
             MutableElements<Wide<T>>(grads.weights));
  });
  return grads;
}

}  // namespace adamoe
