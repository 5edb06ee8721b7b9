#include "tests/gpu/parity.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
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

// The largest error of a position's logits, as a share of their spread; `errors`: all of them.
double LogitError(const PositionAnswer& got, const PositionAnswer& want,
                  std::vector<float>* errors = nullptr) {
  const double spread = Spread(want.logits);
  double largest = 0.0;
  for (size_t i = 0; i < want.logits.size(); ++i) {
    double error = std::abs(double{got.logits[i]} - want.logits[i]) / spread;
    if (std::isnan(error)) error = INFINITY;
    largest = std::max(largest, error);
    if (errors != nullptr) errors->push_back(static_cast<float>(error));
  }
  return largest;
}

bool Differ(const PositionAnswer& got, const PositionAnswer& want) {
  return got.executed != want.executed || got.null_slots != want.null_slots ||
         got.dropped != want.dropped || LogitError(got, want) > ParityReport::kFar;
}

using Steps = std::vector<std::vector<ModelRunner::Feed>>;

// A sequence's token in the batch of a step.
struct Place {
  int64_t step = 0;
  int32_t token = 0;
};

class Comparison {
 public:
  Comparison(Model& oracle, RoutingProbe* probe, const Steps& steps, int num_sequences,
             double tolerance)
      : oracle_(oracle),
        probe_(probe),
        steps_(steps),
        tolerance_(tolerance),
        want_(num_sequences),
        places_(num_sequences) {
    for (size_t step = 0; step < steps.size(); ++step) {
      int32_t token = 0;
      for (const ModelRunner::Feed& feed : steps[step]) {
        for (size_t i = 0; i < feed.tokens.size(); ++i) {
          places_[feed.sequence].push_back({static_cast<int64_t>(step), token++});
        }
      }
    }
    RunOracle();
  }

  // Every position of a sequence.
  void Add(int sequence, const std::vector<PositionAnswer>& got) {
    report_.num_positions += static_cast<int64_t>(got.size());
    report_.num_routings += static_cast<int64_t>(got.size()) * oracle_.dimensions().num_layers;
    for (size_t i = 0; i < got.size(); ++i) {
      const auto differs = [&] { return Differ(got[i], want_[sequence][i]); };
      if (differs() && !Explain(places_[sequence][i], 0, differs)) {
        ++report_.num_unexplained;
        RunOracle();
        return;
      }
      AddLogits(got[i], want_[sequence][i]);
    }
  }

  ParityReport Report() {
    std::sort(errors_.begin(), errors_.end());
    if (!errors_.empty()) report_.median_error = errors_[errors_.size() / 2];
    return report_;
  }

 private:
  // With the experts of report_.ties exchanged.
  void RunOracle() {
    if (probe_ != nullptr) probe_->Restart(report_.ties);
    ModelRunner runner(&oracle_);
    for (size_t s = 0; s < want_.size(); ++s) runner.AddSequence();
    for (const auto& feeds : steps_) runner.Step(feeds);
    for (size_t s = 0; s < want_.size(); ++s) want_[s] = runner.answers(static_cast<int>(s));
  }

  // Exchanges experts of ties at `place`, at most one pair of a layer from `first_layer` on, until
  // the difference is gone. Another expert in one layer makes other ties in those above.
  bool Explain(const Place& place, int32_t first_layer, const std::function<bool()>& differs) {
    if (probe_ == nullptr) return false;
    const std::vector<RouterTie> ties = probe_->ties();
    for (const RouterTie& tie : ties) {
      if (tie.step != place.step || tie.token != place.token || tie.layer < first_layer) continue;
      report_.ties.push_back(tie);
      RunOracle();
      if (!differs() || Explain(place, tie.layer + 1, differs)) return true;
      report_.ties.pop_back();
    }
    return false;
  }

  void AddLogits(const PositionAnswer& got, const PositionAnswer& want) {
    ++report_.num_positions_compared;
    report_.max_error = std::max(report_.max_error, LogitError(got, want, &errors_));
    const double gap = want.logits[Argmax(want.logits)] - want.logits[Argmax(got.logits)];
    if (!(gap <= tolerance_ * Spread(want.logits))) ++report_.num_argmax_differences;
  }

  Model& oracle_;
  RoutingProbe* const probe_;
  const Steps& steps_;
  const double tolerance_;
  std::vector<std::vector<PositionAnswer>> want_;  // by sequence
  std::vector<std::vector<Place>> places_;         // by sequence
  ParityReport report_;
  std::vector<float> errors_;
};

ModelRunner::Feed FeedOf(const ParityPlan& plan, int sequence, std::vector<int32_t> tokens) {
  return {.sequence = sequence,
          .tokens = std::move(tokens),
          .null_bias = sequence % 2 == 1 ? plan.null_bias : 0.0f,
          .max_experts = sequence % 3 == 2 ? plan.max_experts : 0};
}

// The prompts, and what the oracle answers to them.
Steps PlanSteps(const ParityPlan& plan, Model& oracle) {
  Steps steps;
  ModelRunner runner(&oracle);
  const int num_sequences = static_cast<int>(plan.prompts.size());
  for (int s = 0; s < num_sequences; ++s) runner.AddSequence();
  const auto step = [&](std::vector<ModelRunner::Feed> feeds) {
    runner.Step(feeds);
    steps.push_back(std::move(feeds));
  };
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
    step(std::move(feeds));
  }
  for (int i = 0; i < plan.num_decode_steps; ++i) {
    std::vector<ModelRunner::Feed> feeds;
    for (int s = 0; s < num_sequences; ++s) {
      feeds.push_back(FeedOf(plan, s, {Argmax(runner.answers(s).back().logits)}));
    }
    step(std::move(feeds));
  }
  return steps;
}

}  // namespace

std::string ParityReport::ToString() const {
  std::string text = absl::StrFormat(
      "%d positions, %d compared; %d unexplained; logits: median error %.2g, largest %.2g of their "
      "spread, %d other greedy tokens; %d ties in %d routings",
      num_positions, num_positions_compared, num_unexplained, median_error, max_error,
      num_argmax_differences, ties.size(), num_routings);
  for (const RouterTie& tie : ties) absl::StrAppend(&text, "\n  ", tie.ToString());
  return text;
}

ParityReport CompareModels(Model& model, Model& oracle, const ParityPlan& plan, double tolerance,
                           RoutingProbe* probe) {
  const int num_sequences = static_cast<int>(plan.prompts.size());
  if (probe != nullptr) probe->Restart({});
  const Steps steps = PlanSteps(plan, oracle);
  ModelRunner runner(&model);
  for (int s = 0; s < num_sequences; ++s) runner.AddSequence();
  for (const auto& feeds : steps) runner.Step(feeds);
  Comparison comparison(oracle, probe, steps, num_sequences, tolerance);
  for (int s = 0; s < num_sequences; ++s) comparison.Add(s, runner.answers(s));
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
