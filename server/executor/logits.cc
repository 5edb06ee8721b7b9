#include "server/executor/logits.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace adamoe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Eight running maxima, so that one comparison need not wait for the one before it. NaN is passed
// over.
float Max(absl::Span<const float> values) {
  float lanes[8];
  std::fill(std::begin(lanes), std::end(lanes), -kInfinity);
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(std::begin(lanes), std::end(lanes));
}

}  // namespace

absl::Status CheckLogits(absl::Span<const float> logits) {
  bool finite_or_low = true;
  for (const float logit : logits) finite_or_low &= logit < kInfinity;
  if (!finite_or_low) return absl::InternalError("the model's logits hold NaN or infinity");
  if (Max(logits) == -kInfinity) {
    return absl::InternalError("the model's logits are all minus infinity");
  }
  return absl::OkStatus();
}

int32_t ArgMax(absl::Span<const float> logits) {
  const float max = Max(logits);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), max) - logits.begin());
}

float LogSumExp(absl::Span<const float> logits) {
  const float max = Max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return static_cast<float>(max + std::log(sum));
}

std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, float log_sum_exp,
                                      uint32_t count) {
  std::vector<TokenLogprob> top;
  if (count == 0) return top;
  const size_t limit = std::min<size_t>(count, logits.size());
  top.reserve(limit + 1);
  for (size_t id = 0; id < logits.size(); ++id) {
    if (top.size() == limit && !(logits[id] > top.back().logprob)) continue;
    const auto place = std::find_if(top.begin(), top.end(), [&](const TokenLogprob& better) {
      return better.logprob < logits[id];
    });
    top.insert(place, {static_cast<int32_t>(id), logits[id]});
    if (top.size() > limit) top.pop_back();
  }
  for (TokenLogprob& token : top) token.logprob -= log_sum_exp;
  return top;
}

}  // namespace adamoe
