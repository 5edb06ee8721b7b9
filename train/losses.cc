#include "train/losses.h"

#include <cmath>

namespace adamoe {

at::Tensor NextTokenLoss(const at::Tensor& logits, const at::Tensor& targets,
                         const at::Tensor& counted) {
  if (!counted.defined()) return at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten());
  const at::Tensor rows = counted.flatten().nonzero().squeeze(1);
  if (rows.numel() == 0) return logits.sum() * 0;
  return at::cross_entropy_loss(logits.flatten(0, 1).index_select(0, rows),
                                targets.flatten().index_select(0, rows));
}

at::Tensor BalanceLoss(RouterLoss loss, const RouterOutput& routing, int64_t num_experts) {
  const int64_t num_columns = routing.probabilities.size(1);
  const double num_tokens = static_cast<double>(routing.probabilities.size(0));
  at::Tensor shares = at::bincount(routing.picks.flatten(), /*weights=*/{}, num_columns)
                          .to(at::kFloat)
                          .div_(num_tokens);
  if (loss == RouterLoss::kNull && num_columns > num_experts) {
    at::Tensor null_shares = shares.narrow(0, num_experts, num_columns - num_experts);
    null_shares.copy_(null_shares.mean().expand_as(null_shares));
  }
  return (shares * routing.probabilities.mean(0)).sum() * static_cast<double>(num_columns);
}

at::Tensor MeanBalanceLoss(RouterLoss loss, const std::vector<RouterOutput>& routing,
                           int64_t num_experts) {
  std::vector<at::Tensor> losses;
  for (const RouterOutput& layer : routing) {
    losses.push_back(BalanceLoss(loss, layer, num_experts));
  }
  return at::stack(losses).mean();
}

std::vector<RouterOutput> WithoutPadding(const std::vector<RouterOutput>& routing,
                                         const at::Tensor& counted) {
  if (!counted.defined()) return routing;
  const at::Tensor left = counted.flip(1).cumsum(1).flip(1);  // counted targets from here on
  const at::Tensor rows = (left > 0).flatten().nonzero().squeeze(1);
  std::vector<RouterOutput> kept;
  for (const RouterOutput& layer : routing) {
    kept.push_back({layer.probabilities.index_select(0, rows), layer.picks.index_select(0, rows),
                    layer.weights.index_select(0, rows)});
  }
  return kept;
}

double AlphaAt(const AlphaSchedule& schedule, double done) {
  if (schedule.shape == AlphaSchedule::Shape::kHalves) {
    return done < 0.5 ? schedule.first : schedule.last;
  }
  return schedule.first * std::pow(schedule.last / schedule.first, done);
}

double MeanLoad(const std::vector<RouterOutput>& routing, int64_t num_experts) {
  double load = 0;
  for (const RouterOutput& layer : routing) {
    const double num_true = (layer.picks < num_experts).sum().item<double>();
    load += num_true / static_cast<double>(layer.picks.size(0));
  }
  return load / static_cast<double>(routing.size());
}

}  // namespace adamoe
