#include "tests/gpu/bench/measure.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/clock.h"
#include "server/base/status_macros.h"
#include "server/executor/executor.h"
#include "server/queue/request_queue.h"
#include "tests/fakes/recording_sink.h"
#include "tests/gpu/parity.h"

namespace adamoe {
namespace {

struct Step {
  absl::Time end;
  StepReport report;
};

// Keeps every step with the time it ended. The executor's thread writes, the caller reads once it
// has ended.
class StepTimes : public StepObserver {
 public:
  void OnStep(const StepReport& report) override { steps_.push_back({absl::Now(), report}); }
  void OnLoad(const LoadReport&) override {}
  void OnFirstToken(absl::Duration) override {}
  void OnNextToken(absl::Duration) override {}
  void OnTokenExperts(double) override {}
  void OnAdmitted(absl::Duration) override {}

  const std::vector<Step>& steps() const { return steps_; }

 private:
  std::vector<Step> steps_;
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::unique_ptr<Request> MakeRequest(std::vector<int32_t> prompt, uint32_t max_tokens,
                                     std::shared_ptr<TokenSink> sink) {
  auto request = std::make_unique<Request>();
  request->prompt = std::move(prompt);
  request->sampling.max_tokens = max_tokens;
  request->sampling.temperature = 0.0f;
  request->sink = std::move(sink);
  return request;
}

// Runs requests to their end; `together`: all at once, else one after the other.
absl::StatusOr<std::vector<Step>> Run(Model* model, const Executor::Options& options,
                                      const std::vector<std::vector<int32_t>>& prompts,
                                      uint32_t max_tokens, bool together) {
  const RealClock clock;
  RequestQueue queue(&clock, prompts.size());
  StepTimes times;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  {
    Executor executor(options, model, &queue, &times, &clock);
    if (!together) executor.Start();
    for (const auto& prompt : prompts) {
      sinks.push_back(std::make_shared<RecordingSink>());
      RETURN_IF_ERROR(queue.Submit(MakeRequest(prompt, max_tokens, sinks.back())).status());
      if (!together) sinks.back()->AwaitFinish();
    }
    if (together) executor.Start();
    executor.Drain(absl::Minutes(5));
  }
  for (const auto& sink : sinks) RETURN_IF_ERROR(sink->outcome().status);
  return times.steps();
}

double LoadOf(const StepReport& report, const ModelDimensions& dimensions) {
  const uint64_t slots = report.decode_slots.true_slots + report.prefill_slots.true_slots;
  return static_cast<double>(slots) / dimensions.num_layers / report.num_tokens;
}

}  // namespace

absl::StatusOr<Speed> MeasureDecode(Model* model, int32_t batch, int32_t prompt_tokens,
                                    int32_t num_steps) {
  const ModelDimensions& dimensions = model->dimensions();
  Executor::Options options;
  options.max_batch_tokens = std::max(2 * batch, 512);
  options.prefill_chunk_tokens = options.max_batch_tokens;
  options.max_running_requests = batch;
  options.prefix_caching = false;
  std::vector<std::vector<int32_t>> prompts;
  for (int32_t i = 0; i < batch; ++i) {
    prompts.push_back(SeededTokens(prompt_tokens, i + 1, dimensions.vocab_size));
  }
  // Prompts end at different steps: the rest of them decode on until the last has joined.
  const int32_t prefill_steps = 2 * batch * prompt_tokens / options.max_batch_tokens + batch;
  const int32_t max_tokens = num_steps + prefill_steps;
  ASSIGN_OR_RETURN(const std::vector<Step> steps,
                   Run(model, options, prompts, max_tokens, /*together=*/true));
  std::vector<double> periods;
  std::vector<double> hosts;
  double load = 0.0;
  for (size_t i = 1; i < steps.size(); ++i) {
    const auto whole = [batch](const StepReport& report) {
      return report.phase == StepPhase::kDecode &&
             report.num_tokens == static_cast<uint32_t>(batch);
    };
    if (!whole(steps[i].report) || !whole(steps[i - 1].report)) continue;
    periods.push_back(absl::ToDoubleSeconds(steps[i].end - steps[i - 1].end));
    hosts.push_back(absl::ToDoubleSeconds(steps[i].report.overhead.value_or(absl::ZeroDuration())));
    load += LoadOf(steps[i].report, dimensions);
  }
  if (periods.empty()) return absl::InternalError("no step decoded for all requests together");
  const double median = Median(periods);
  return Speed{.num_steps = static_cast<int64_t>(periods.size()),
               .tokens_per_second = batch / median,
               .step_seconds = median,
               .host_seconds = Median(hosts),
               .load = load / static_cast<double>(periods.size()),
               // The last to join is at its prompt when the first is half-way, on average.
               .context = prompt_tokens + max_tokens / 2.0};
}

absl::StatusOr<Speed> MeasurePrefill(Model* model, int32_t num_tokens, int32_t num_prompts) {
  const ModelDimensions& dimensions = model->dimensions();
  Executor::Options options;
  options.max_batch_tokens = num_tokens;
  options.max_running_requests = 1;
  options.prefix_caching = false;
  std::vector<std::vector<int32_t>> prompts;
  for (int32_t i = 0; i <= num_prompts; ++i) {
    prompts.push_back(SeededTokens(num_tokens, i + 1, dimensions.vocab_size));
  }
  ASSIGN_OR_RETURN(const std::vector<Step> steps,
                   Run(model, options, prompts, 1, /*together=*/false));
  std::vector<double> durations;
  double load = 0.0;
  for (size_t i = 1; i < steps.size(); ++i) {
    if (steps[i].report.num_tokens != static_cast<uint32_t>(num_tokens)) {
      return absl::InternalError(
          absl::StrCat("a step of ", steps[i].report.num_tokens, " tokens, not ", num_tokens));
    }
    durations.push_back(absl::ToDoubleSeconds(steps[i].report.duration));
    load += LoadOf(steps[i].report, dimensions);
  }
  if (durations.empty()) return absl::InternalError("no prompt ran");
  const double median = Median(durations);
  return Speed{.num_steps = static_cast<int64_t>(durations.size()),
               .tokens_per_second = num_tokens / median,
               .step_seconds = median,
               .load = load / static_cast<double>(durations.size())};
}

}  // namespace adamoe
