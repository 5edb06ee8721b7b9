// Sums of the rows that belong to a token, weighted or not, and their gradients; on the CPU in one
// pass over memory each. Thread-safe.
#ifndef ADAMOE_TRAIN_ROW_SUMS_H_
#define ADAMOE_TRAIN_ROW_SUMS_H_

#include <ATen/ATen.h>

namespace adamoe {

// y: [num_rows, hidden], contiguous, f64, f32 or bf16; row_of_pick: [tokens, k], contiguous, i64,
// in [0, num_rows], num_rows for none; weights: [tokens, k], contiguous, f64 where y is and f32
// otherwise; undefined: all 1. Returns [tokens, hidden] in y's type, summed in float32 or wider:
// row t is the sum over p of weights[t, p] * y[row_of_pick[t, p]].
at::Tensor SumPickedRows(const at::Tensor& y, const at::Tensor& row_of_pick,
                         const at::Tensor& weights);

struct PickedRowGradients {
  at::Tensor y;        // [num_rows, hidden], 0 in rows that no pick has
  at::Tensor weights;  // [tokens, k], 0 where there is no row
};

// The gradients of the weighted SumPickedRows, given that of its result. grad: [tokens, hidden],
// contiguous, of y's type. Each row belongs to one pick at most.
PickedRowGradients SumPickedRowsBackward(const at::Tensor& grad, const at::Tensor& y,
                                         const at::Tensor& row_of_pick, const at::Tensor& weights);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_ROW_SUMS_H_
