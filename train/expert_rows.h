// Which rows of a batch each expert computes, and the two moves between token order and expert
// order.
//
// Only true picks get a row; null picks appear nowhere. Each move is the other's adjoint, so both
// run backwards as plain row gathers. The rows of an expert are filled up to a multiple of a few:
// matrix products are compiled for their shape, and a new shape in each step costs more than the
// filling does. Immutable; thread-safe.
#ifndef ADAMOE_TRAIN_EXPERT_ROWS_H_
#define ADAMOE_TRAIN_EXPERT_ROWS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace adamoe {

struct ExpertRows {
  // [n], rows of each expert with its filling rows; they lie one expert after the other.
  std::vector<int64_t> counts;
  int64_t num_rows = 0;  // sum of counts
  // [num_rows], i64: flat index into [tokens, k] of the pick behind each row; tokens * k in a
  // filling row.
  at::Tensor picks;
  at::Tensor tokens;       // [num_rows], i64: the token of each row; the last in a filling row
  at::Tensor row_of_pick;  // [tokens, k], i64: the row of a pick; num_rows where it is null
};

// What matrix products are given: at most half of this is computed in vain for each expert.
constexpr int64_t kRowMultiple = 32;

// `picks`: [tokens, k], i64, in [0, n + m), tokens >= 1. Rows of an expert are in order of token,
// then filled up to a multiple of `multiple`; an expert without rows stays without.
ExpertRows ArrangeRows(const at::Tensor& picks, int64_t num_experts, int64_t multiple);

// x: [tokens, hidden] -> [num_rows, hidden]: row r is a copy of x[tokens[r]]. Differentiable.
at::Tensor GatherRows(const at::Tensor& x, const ExpertRows& rows);

// weights: [tokens, k] -> [num_rows]: the weight of the pick behind each row; 0 in a filling row,
// so that a product with it passes no gradient back from there. Differentiable.
at::Tensor GatherWeights(const at::Tensor& weights, const ExpertRows& rows);

// y: [num_rows, hidden] -> [tokens, hidden]: the sum of each token's rows; exactly 0 for a token
// without rows. Filling rows are left out, but their gradient is the last token's: multiply them
// with GatherWeights first. Differentiable.
at::Tensor SumRows(const at::Tensor& y, const ExpertRows& rows);

// The same of the rows times the weights of their picks. weights: [tokens, k]; those of null picks
// do not matter and get gradient 0. The gradient of filling rows is 0. Differentiable.
at::Tensor SumWeightedRows(const at::Tensor& y, const at::Tensor& weights, const ExpertRows& rows);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_EXPERT_ROWS_H_
