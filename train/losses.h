// The training losses. Pure and thread-safe.
#ifndef ADAMOE_TRAIN_LOSSES_H_
#define ADAMOE_TRAIN_LOSSES_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "train/mixtral_reference.h"

namespace adamoe {

// Mean negative log-likelihood, in nats per token. logits: [batch, length, vocab]; targets: [batch,
// length], i64.
at::Tensor NextTokenLoss(const at::Tensor& logits, const at::Tensor& targets);

// AdaMoE's balance loss of one layer, without alpha: (n + m) * sum over experts i of f'_i * P_i,
// where P_i is the mean probability of i and f'_i the share of tokens that picked i, averaged over
// the null experts among themselves.
at::Tensor NullBalanceLoss(const RouterOutput& routing, int64_t num_experts);

// The mean of NullBalanceLoss over layers.
at::Tensor MeanNullBalanceLoss(const std::vector<RouterOutput>& routing, int64_t num_experts);

// Mean true experts per token and layer.
double MeanLoad(const std::vector<RouterOutput>& routing, int64_t num_experts);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_LOSSES_H_
