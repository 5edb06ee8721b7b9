// The experts of a Mixtral layer on the rows gathered for them, differentiable. Thread-safe.
#ifndef ADAMOE_TRAIN_EXPERT_MLP_H_
#define ADAMOE_TRAIN_EXPERT_MLP_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace adamoe {

// E_i(x) = w2_i( silu(w1_i x) * w3_i x ) for the counts[i] rows of each expert i.
// x: [num_rows, hidden], in order of expert; w13: [n, 2 * inner, hidden], w1 over w3; w2: [n,
// hidden, inner]; counts: [n], summing to num_rows. All of one type. Returns [num_rows, hidden].
at::Tensor ExpertMlp(const at::Tensor& x, const at::Tensor& w13, const at::Tensor& w2,
                     const std::vector<int64_t>& counts);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_EXPERT_MLP_H_
