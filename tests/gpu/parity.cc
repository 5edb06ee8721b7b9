#include "tests/gpu/parity.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "tests/unit/model/model_runner.h"

namespace adamoe {
namespace {

int32_t Argmax(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Standard deviation: what errors of logits are measured against.
double Spread(const std::vector<float>& logits) {
  double sum = 0.0;
  double squares = 0.0;
  for (const float logit : logits) {
    sum += logit;
    squares += double{logit} * logit;
  }
  const double n = static_cast<double>(logits.size());
  return std::sqrt(std::max(squares / n - sum / n * sum / n, 1e-12));
}

class Comparison {
 public:
  Comparison(double tolerance, int num_layers) : tolerance_(tolerance), num_layers_(num_layers) {}

  // Positions [begin, end) of a sequence.
  void Add(const std::vector<PositionAnswer>& got, const std::vector<PositionAnswer>& want) {
    bool alike = true;
    for (size_t i = 0; i < want.size(); ++i) {
      alike &= AddRouting(got[i], want[i]);
      if (alike) AddLogits(got[i].logits, want[i].logits);
    }
  }

  ParityReport Report() {
    std::sort(errors_.begin(), errors_.end());
    if (!errors_.empty()) report_.median_error = errors_[errors_.size() / 2];
    return report_;
  }

 private:
  bool AddRouting(const PositionAnswer& got, const PositionAnswer& want) {
    ++report_.num_positions;
    report_.num_routings += num_layers_;
    int64_t differences = 0;
    for (int layer = 0; layer < num_layers_; ++layer) {
      differences += got.executed[layer] != want.executed[layer] ||
                     got.null_slots[layer] != want.null_slots[layer] ||
                     got.dropped[layer] != want.dropped[layer];
    }
    report_.num_routing_differences += differences;
    return differences == 0;
  }

  void AddLogits(const std::vector<float>& got, const std::vector<float>& want) {
    ++report_.num_positions_compared;
    const double spread = Spread(want);
    double largest = 0.0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double error = std::abs(double{got[i]} - want[i]) / spread;
      errors_.push_back(std::isnan(error) ? INFINITY : static_cast<float>(error));
      largest = std::max(largest, double{errors_.back()});
    }
    if (largest > ParityReport::kFar) {
      ++report_.num_far_positions;
      return;
    }
    report_.max_error = std::max(report_.max_error, largest);
    const double gap = want[Argmax(want)] - want[Argmax(got)];
    if (!(gap <= tolerance_ * spread)) ++report_.num_argmax_differences;
  }

  const double tolerance_;
  const int num_layers_;
  ParityReport report_;
  std::vector<float> errors_;
};

ModelRunner::Feed FeedOf(const ParityPlan& plan, int sequence, std::vector<int32_t> tokens) {
  return {.sequence = sequence,
          .tokens = std::move(tokens),
          .null_bias = sequence % 2 == 1 ? plan.null_bias : 0.0f,
          .max_experts = sequence % 3 == 2 ? plan.max_experts : 0};
}

}  // namespace

std::string ParityReport::ToString() const {
  return absl::StrFormat(
      "%d positions; routing differs at %d of %d; logits compared at %d, far off at %d: median "
      "error "
      "%.2g, largest elsewhere %.2g of their spread, %d other greedy tokens",
      num_positions, num_routing_differences, num_routings, num_positions_compared,
      num_far_positions, median_error, max_error, num_argmax_differences);
}

ParityReport CompareModels(Model& model, Model& oracle, const ParityPlan& plan, double tolerance) {
  ModelRunner runner(&model);
  ModelRunner oracle_runner(&oracle);
  const int num_sequences = static_cast<int>(plan.prompts.size());
  const auto step = [&](const std::vector<ModelRunner::Feed>& feeds) {
    runner.Step(feeds);
    oracle_runner.Step(feeds);
  };
  for (int s = 0; s < num_sequences; ++s) {
    runner.AddSequence();
    oracle_runner.AddSequence();
  }
  for (size_t begin = 0, more = 1; more != 0; begin += plan.prefill_chunk) {
    std::vector<ModelRunner::Feed> feeds;
    more = 0;
    for (int s = 0; s < num_sequences; ++s) {
      const auto& prompt = plan.prompts[s];
      const size_t end = plan.prefill_chunk == 0
                             ? prompt.size()
                             : std::min(begin + plan.prefill_chunk, prompt.size());
      more += plan.prefill_chunk != 0 && end < prompt.size();
      if (begin < end) {
        feeds.push_back(FeedOf(plan, s, {prompt.begin() + begin, prompt.begin() + end}));
      }
    }
    step(feeds);
  }
  for (int i = 0; i < plan.num_decode_steps; ++i) {
    std::vector<ModelRunner::Feed> feeds;
    for (int s = 0; s < num_sequences; ++s) {
      feeds.push_back(FeedOf(plan, s, {Argmax(oracle_runner.answers(s).back().logits)}));
    }
    step(feeds);
  }
  Comparison comparison(tolerance, oracle.dimensions().num_layers);
  for (int s = 0; s < num_sequences; ++s) {
    comparison.Add(runner.answers(s), oracle_runner.answers(s));
  }
  return comparison.Report();
}

std::vector<int32_t> SeededTokens(int32_t length, uint64_t seed, int32_t vocab_size) {
  std::vector<int32_t> tokens;
  uint64_t state = seed * 2 + 1;
  for (int32_t i = 0; i < length; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

}  // namespace adamoe
