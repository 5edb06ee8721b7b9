#include "tests/gpu/trace.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/clock.h"
#include "server/base/status_macros.h"
#include "server/queue/request_queue.h"
#include "tests/fakes/recording_sink.h"
#include "tests/gpu/parity.h"
#include "tests/unit/model/model_runner.h"

namespace adamoe {
namespace {

// Asks the queue to cancel its request once enough tokens are out.
class CancellingSink : public RecordingSink {
 public:
  CancellingSink(RequestQueue* queue, uint32_t cancel_after)
      : queue_(queue), cancel_after_(cancel_after) {}

  Next OnToken(TokenInfo token) override {
    const Next next = RecordingSink::OnToken(std::move(token));
    if (++num_tokens_ == cancel_after_) {
      absl::MutexLock lock(&mu_);
      if (ticket_ != 0) queue_->Cancel(ticket_);
      due_ = true;
    }
    return next;
  }

  // After Submit, which may come later than the first tokens.
  void set_ticket(RequestTicket ticket) {
    absl::MutexLock lock(&mu_);
    ticket_ = ticket;
    if (due_) queue_->Cancel(ticket_);
  }

 private:
  RequestQueue* const queue_;
  const uint32_t cancel_after_;
  uint32_t num_tokens_ = 0;  // the executor's thread's
  absl::Mutex mu_;
  RequestTicket ticket_ ABSL_GUARDED_BY(mu_) = 0;
  bool due_ ABSL_GUARDED_BY(mu_) = false;
};

std::unique_ptr<Request> Build(const TraceRequest& line) {
  auto request = std::make_unique<Request>();
  request->prompt = line.prompt;
  request->sampling.max_tokens = line.max_tokens;
  request->sampling.temperature = 0.0f;
  request->compute = line.compute;
  request->priority = line.priority;
  return request;
}

absl::StatusOr<TraceRequest> Parse(const nlohmann::json& line, int32_t vocab_size) {
  const auto number = [&line](const char* key, double fallback) {
    return line.value(key, fallback);
  };
  const auto length = static_cast<int32_t>(number("prompt", 0));
  const auto shared = static_cast<int32_t>(number("shared", 0));
  TraceRequest request;
  request.max_tokens = static_cast<uint32_t>(number("max_tokens", 0));
  if (length < 1 || shared < 0 || request.max_tokens < 1) {
    return absl::InvalidArgumentError("prompt and max_tokens are at least 1");
  }
  request.at = absl::Milliseconds(number("at_ms", 0));
  request.prompt = SeededTokens(shared, 0, vocab_size);
  const auto own = SeededTokens(length, static_cast<uint64_t>(number("seed", 0)) + 1, vocab_size);
  request.prompt.insert(request.prompt.end(), own.begin(), own.end());
  request.compute.null_bias = static_cast<float>(number("null_bias", 0));
  request.compute.max_experts_per_token = static_cast<uint32_t>(number("max_experts", 0));
  request.priority = static_cast<int32_t>(number("priority", 0));
  request.cancel_after = static_cast<uint32_t>(number("cancel_after", 0));
  return request;
}

absl::Status CheckAnswer(const TraceRequest& request, const TraceAnswer& answer,
                         const ModelDimensions& dimensions) {
  const Usage& usage = answer.usage;
  const uint64_t slots =
      usage.slots.true_slots + usage.slots.null_slots + usage.slots.dropped_slots;
  const uint64_t per_position = uint64_t{1} * dimensions.num_layers * dimensions.experts_per_token;
  if (slots != usage.positions * per_position) {
    return absl::InternalError(absl::StrCat(slots, " slots at ", usage.positions, " positions"));
  }
  if (answer.ids.size() != usage.completion_tokens) {
    return absl::InternalError(
        absl::StrCat(answer.ids.size(), " tokens, ", usage.completion_tokens, " counted"));
  }
  if (absl::IsCancelled(answer.status) && request.cancel_after > 0) {
    // One step may have been under way.
    if (answer.ids.size() >= request.cancel_after) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("cancelled after ", answer.ids.size(), " tokens"));
  }
  RETURN_IF_ERROR(answer.status);
  if (answer.ids.size() == request.max_tokens) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(answer.ids.size(), " tokens, not ", request.max_tokens));
}

// What the oracle says of an answer's tokens.
void Compare(const TraceRequest& request, const TraceAnswer& answer, Model* oracle,
             double tolerance, TraceCheck* check) {
  if (answer.ids.empty()) return;
  std::vector<int32_t> tokens = request.prompt;
  tokens.insert(tokens.end(), answer.ids.begin(), answer.ids.end() - 1);
  ModelRunner runner(oracle);
  const int sequence = runner.AddSequence();
  runner.Step(
      {{sequence, tokens, request.compute.null_bias, request.compute.max_experts_per_token}});
  const auto& positions = runner.answers(sequence);
  const size_t first = request.prompt.size() - 1;
  for (size_t i = 0; i < answer.ids.size(); ++i) {
    const PositionAnswer& want = positions[first + i];
    const auto [low, high] = std::minmax_element(want.logits.begin(), want.logits.end());
    const double gap = *high - want.logits[answer.ids[i]];
    uint32_t experts = 0;
    for (const uint8_t executed : want.executed) experts += executed;
    ++check->num_tokens;
    check->num_expert_differences += experts != answer.experts[i];
    check->num_other_choices += !(gap <= tolerance * (*high - *low));
  }
}

}  // namespace

absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& path, int32_t vocab_size) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::vector<TraceRequest> trace;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    absl::StatusOr<TraceRequest> request =
        line.is_object() ? Parse(line, vocab_size)
                         : absl::InvalidArgumentError("expected a JSON object");
    if (!request.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": ", request.status().message()));
    }
    trace.push_back(*std::move(request));
  }
  return trace;
}

absl::StatusOr<TraceRun> RunTrace(const std::vector<TraceRequest>& trace,
                                  const Executor::Options& options, Model* model) {
  const RealClock clock;
  RequestQueue queue(&clock, trace.size() + 1);
  RecordingObserver observer;
  std::vector<std::shared_ptr<CancellingSink>> sinks;
  TraceRun run;
  {
    Executor executor(options, model, &queue, &observer, &clock);
    executor.Start();
    const absl::Time start = clock.Now();
    for (const TraceRequest& line : trace) {
      absl::SleepFor(start + line.at - clock.Now());
      sinks.push_back(std::make_shared<CancellingSink>(&queue, line.cancel_after));
      std::unique_ptr<Request> request = Build(line);
      request->sink = sinks.back();
      ASSIGN_OR_RETURN(const RequestTicket ticket, queue.Submit(std::move(request)));
      sinks.back()->set_ticket(ticket);
    }
    executor.Drain(absl::Minutes(5));
    run.duration = clock.Now() - start;
  }
  for (const auto& sink : sinks) {
    if (!sink->finished() || !sink->in_order()) {
      return absl::UnavailableError("a request did not end, or its sink heard things out of order");
    }
    TraceAnswer answer;
    answer.status = sink->outcome().status;
    answer.usage = sink->outcome().usage;
    for (const TokenInfo& token : sink->tokens()) {
      answer.ids.push_back(token.id);
      answer.experts.push_back(token.experts);
    }
    run.answers.push_back(std::move(answer));
  }
  run.record = observer.record();
  return run;
}

absl::StatusOr<TraceCheck> CheckTrace(const std::vector<TraceRequest>& trace, const TraceRun& run,
                                      Model* oracle, double tolerance) {
  TraceCheck check;
  for (size_t i = 0; i < trace.size(); ++i) {
    const absl::Status status = CheckAnswer(trace[i], run.answers[i], oracle->dimensions());
    if (!status.ok()) {
      return absl::InternalError(absl::StrCat("request ", i + 1, ": ", status.message()));
    }
    Compare(trace[i], run.answers[i], oracle, tolerance, &check);
  }
  return check;
}

}  // namespace adamoe
