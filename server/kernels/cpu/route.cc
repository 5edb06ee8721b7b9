#include "server/kernels/cpu/route.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace adamoe {
namespace {

// One token's pick of a true expert.
struct TruePick {
  int32_t token;
  int32_t expert;
  float weight;
};

// Below this, a sum of probabilities has lost digits to underflow.
constexpr float kSmallestSum = 1e-30f;

// Logits to probabilities, in place. What is not a number gets 0.
void Softmax(std::vector<float>* values) {
  float largest = -INFINITY;
  for (float v : *values) {
    if (v > largest) largest = v;
  }
  float sum = 0.0f;
  for (float& v : *values) {
    v = v == largest ? 1.0f : std::exp(v - largest);  // equality serves infinite logits
    if (std::isnan(v)) v = 0.0f;
    sum += v;
  }
  if (sum == 0.0f) return;
  for (float& v : *values) v /= sum;
}

// The k most probable, ties to the lowest index, most probable first. REQUIRES: no NaN.
void TopK(const std::vector<float>& probability, int32_t k, std::vector<int32_t>* order) {
  const auto ranks_before = [&](int32_t a, int32_t b) {
    return probability[a] != probability[b] ? probability[a] > probability[b] : a < b;
  };
  order->resize(probability.size());
  std::iota(order->begin(), order->end(), 0);
  std::partial_sort(order->begin(), order->begin() + k, order->end(), ranks_before);
}

// Picks token by token, into lists that outlive a token.
class Router {
 public:
  explicit Router(const RouterParams& params)
      : params_(params), logits_(params.num_experts + params.num_null_experts) {}

  // Picks the experts of one token, most probable first.
  void Pick(const float* logits, int32_t token, Routing* routing) {
    logits_.assign(logits, logits + logits_.size());
    const float bias = params_.null_bias != nullptr ? params_.null_bias[token] : 0.0f;
    for (size_t i = params_.num_experts; i < logits_.size(); ++i) logits_[i] += bias;
    probability_ = logits_;
    Softmax(&probability_);
    TopK(probability_, params_.experts_per_token, &order_);
    const uint32_t limit = params_.max_experts != nullptr ? params_.max_experts[token] : 0;
    kept_.clear();
    for (int32_t rank = 0; rank < params_.experts_per_token; ++rank) {
      const int32_t expert = order_[rank];
      if (expert >= params_.num_experts) {
        ++routing->null_slots[token];
      } else if (limit != 0 && kept_.size() >= limit) {
        ++routing->dropped[token];
      } else {
        kept_.push_back(expert);
      }
    }
    AppendKept(token);
  }

  // All picks so far, gathered by expert.
  void Gather(Routing* routing) const {
    routing->expert_begin.assign(params_.num_experts + 1, 0);
    for (const auto& pick : picks_) ++routing->expert_begin[pick.expert + 1];
    std::partial_sum(routing->expert_begin.begin(), routing->expert_begin.end(),
                     routing->expert_begin.begin());
    routing->row_token.resize(picks_.size());
    routing->row_weight.resize(picks_.size());
    std::vector<int32_t> next(routing->expert_begin);
    for (const auto& pick : picks_) {
      const int32_t row = next[pick.expert]++;
      routing->row_token[row] = pick.token;
      routing->row_weight[row] = pick.weight;
    }
  }

 private:
  // Weights are the probabilities over their sum; where those underflow, a softmax of the kept
  // logits, which is the same number.
  void AppendKept(int32_t token) {
    weights_.clear();
    float sum = 0.0f;
    for (int32_t expert : kept_) {
      weights_.push_back(probability_[expert]);
      sum += probability_[expert];
    }
    if (sum < kSmallestSum) {
      for (size_t i = 0; i < kept_.size(); ++i) weights_[i] = logits_[kept_[i]];
      Softmax(&weights_);
      sum = 1.0f;
    }
    for (size_t i = 0; i < kept_.size(); ++i) {
      picks_.push_back({token, kept_[i], weights_[i] / sum});
    }
  }

  const RouterParams& params_;
  std::vector<TruePick> picks_;
  // Of one token.
  std::vector<float> logits_;       // [n + m], with the bias
  std::vector<float> probability_;  // [n + m]
  std::vector<int32_t> order_;      // [n + m]
  std::vector<int32_t> kept_;
  std::vector<float> weights_;  // [kept]
};

}  // namespace

void RouteTokens(const float* logits, int32_t num_tokens, const RouterParams& params,
                 Routing* routing) {
  routing->null_slots.assign(num_tokens, 0);
  routing->dropped.assign(num_tokens, 0);
  Router router(params);
  const int64_t width = params.num_experts + params.num_null_experts;
  for (int32_t t = 0; t < num_tokens; ++t) router.Pick(logits + t * width, t, routing);
  router.Gather(routing);
}

}  // namespace adamoe
