// Which rows of a batch each expert computes, and the two moves between token order and expert
// order.
//
// Only true picks get a row; null picks appear nowhere. Each move is the other's adjoint, so both
// run backwards as plain row gathers. Immutable; thread-safe.
#ifndef ADAMOE_TRAIN_EXPERT_ROWS_H_
#define ADAMOE_TRAIN_EXPERT_ROWS_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace adamoe {

struct ExpertRows {
  std::vector<int64_t> counts;  // [n], rows of each expert; they lie one expert after the other
  int64_t num_rows = 0;         // sum of counts
  at::Tensor picks;   // [num_rows], i64: flat index into [tokens, k] of the pick behind each row
  at::Tensor tokens;  // [num_rows], i64: the token of each row
  at::Tensor row_of_pick;  // [tokens, k], i64: the row of a pick; num_rows where it is null
};

// `picks`: [tokens, k], i64, in [0, n + m). Rows of an expert are in order of token.
ExpertRows ArrangeRows(const at::Tensor& picks, int64_t num_experts);

// x: [tokens, hidden] -> [num_rows, hidden]: row r is a copy of x[tokens[r]]. Differentiable.
at::Tensor GatherRows(const at::Tensor& x, const ExpertRows& rows);

// y: [num_rows, hidden] -> [tokens, hidden]: the sum of each token's rows; exactly 0 for a token
// without rows. Differentiable.
at::Tensor SumRows(const at::Tensor& y, const ExpertRows& rows);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_EXPERT_ROWS_H_
