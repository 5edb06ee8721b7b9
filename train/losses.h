// The training losses. Pure and thread-safe.
#ifndef ADAMOE_TRAIN_LOSSES_H_
#define ADAMOE_TRAIN_LOSSES_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "train/mixtral_reference.h"

namespace adamoe {

// Mean negative log-likelihood, in nats per counted token; 0 without one. logits: [batch, length,
// vocab]; targets: [batch, length], i64; counted: [batch, length], bool, undefined: all.
at::Tensor NextTokenLoss(const at::Tensor& logits, const at::Tensor& targets,
                         const at::Tensor& counted = {});

// What keeps the router's picks spread over the experts.
enum class RouterLoss {
  kNull,     // AdaMoE's (arXiv 2406.13233, section 3.3): nulls count as one group
  kBalance,  // the same with every null held to its own share, as for true experts
  kNone,
};

// The balance loss of one layer, without alpha: (n + m) * sum over experts i of f_i * P_i, where
// P_i is the mean probability of i and f_i the share of tokens that picked i; under kNull, f_i of a
// null is the mean over the nulls. REQUIRES: loss is not kNone.
at::Tensor BalanceLoss(RouterLoss loss, const RouterOutput& routing, int64_t num_experts);

// The mean of BalanceLoss over layers.
at::Tensor MeanBalanceLoss(RouterLoss loss, const std::vector<RouterOutput>& routing,
                           int64_t num_experts);

// The weight of the balance loss over a training.
struct AlphaSchedule {
  enum class Shape {
    kHalves,       // `first` in the first half, `last` in the second: the paper's two epochs
    kExponential,  // from `first` to `last` in equal ratios
  };
  double first = 0.02;
  double last = 0.0001;
  Shape shape = Shape::kExponential;
};

// `done`: the share of the training that is over, in [0, 1].
double AlphaAt(const AlphaSchedule& schedule, double done);

// The routing of the positions that are not padding: those up to a row's last counted target.
// counted: [batch, length], as in NextTokenLoss; routing's tokens are its positions, row-major.
std::vector<RouterOutput> WithoutPadding(const std::vector<RouterOutput>& routing,
                                         const at::Tensor& counted);

// Mean true experts per token and layer.
double MeanLoad(const std::vector<RouterOutput>& routing, int64_t num_experts);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_LOSSES_H_
