// Everything below but Start, Drain, Stop and last_progress belongs to the loop's thread.
//
// A request is in `active_` from the step that takes it from the queue until End, which is the one
// place where its sink hears of the outcome and its blocks go back. The scheduler names requests by
// their Sequence, whose id is the queue's ticket.
#include "server/executor/executor.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/executor/active_request.h"
#include "server/executor/step_batch.h"
#include "server/executor/step_output.h"
#include "server/kv_cache/block_pool.h"
#include "server/scheduler/scheduler.h"
#include "spdlog/spdlog.h"

namespace adamoe {
namespace {

constexpr absl::Duration kHeartbeat = absl::Milliseconds(500);
constexpr int64_t kNever = std::numeric_limits<int64_t>::min();

Scheduler::Options SchedulerOptions(const Executor::Options& options) {
  Scheduler::Options result;
  result.max_batch_tokens = options.max_batch_tokens;
  result.max_running = options.max_running_requests;
  result.prefix_caching = options.prefix_caching;
  result.starvation_limit = options.starvation_limit;
  result.pacing.fixed_chunk = options.prefill_chunk_tokens;
  return result;
}

bool IsStopToken(const SamplingParams& params, int32_t token) {
  const auto& stops = params.stop_token_ids;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

// Why a request ends whose last position has run without giving a token.
FinishReason ReasonWithoutToken(const ActiveRequest& request) {
  if (request.output_complete) return FinishReason::kStopToken;
  return request.request->sampling.max_tokens > 0 ? FinishReason::kLength : FinishReason::kNone;
}

}  // namespace

class Executor::Impl {
 public:
  Impl(const Options& options, Model* model, RequestQueue* queue, StepObserver* observer,
       const Clock* clock)
      : dimensions_(model->dimensions()),
        model_(model),
        queue_(queue),
        observer_(observer),
        clock_(clock),
        pool_(dimensions_.num_kv_blocks, dimensions_.kv_block_size),
        scheduler_(SchedulerOptions(options), &pool_),
        seeds_(std::random_device()()),
        output_(&dimensions_, &batch_, &result_, &scratch_) {
    NoteProgress();
  }

  void Start() {
    thread_ = std::thread([this] { Run(); });
  }

  // The loop ends once nothing is left to do, and at `until` in any case. Returns when it has
  // ended.
  void StopBy(absl::Time until) {
    queue_->Close();
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
      stop_by_ = std::min(stop_by_, until);
    }
    queue_->Wake();
    if (thread_.joinable()) {
      thread_.join();
    } else {
      EndAll();
    }
  }

  void Drain(absl::Duration timeout) { StopBy(clock_->Now() + timeout); }

  absl::Time last_progress() const {
    const int64_t nanos = last_progress_.load();
    return nanos == kNever ? absl::InfinitePast() : absl::FromUnixNanos(nanos);
  }

 private:
  void Run();
  void Step();

  void AcceptArrivals();
  void Accept(RequestTicket ticket, std::unique_ptr<Request> request);
  void EndExpired(absl::Time now);
  void NoteAdmissions(const StepPlan& plan, absl::Time now);
  absl::Status RunModel();
  void FailStep(const StepPlan& plan, const absl::Status& status);
  void Count(const StepPlan& plan, absl::Duration elapsed);
  void CountPiece(const StepPiece& piece, const PlannedWork& work);
  void ReadTokens(const StepPlan& plan);
  void Publish(const StepPlan& plan, absl::Time now);
  void PublishTo(ActiveRequest* request, absl::StatusOr<std::optional<TokenInfo>> token,
                 absl::Time now);
  void HandOver(ActiveRequest* request, TokenInfo token, absl::Time now);

  ActiveRequest* Of(const PlannedWork& work) { return active_.at(work.sequence->id).get(); }
  void End(ActiveRequest* request, absl::Status status, FinishReason reason = FinishReason::kNone);
  void EndAll();
  void NoteProgress() {
    last_progress_ = model_->lost() ? kNever : absl::ToUnixNanos(clock_->Now());
  }

  const ModelDimensions dimensions_;
  Model* const model_;
  RequestQueue* const queue_;
  StepObserver* const observer_;
  const Clock* const clock_;
  std::atomic<int64_t> last_progress_{0};  // Unix nanoseconds, or kNever

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time stop_by_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();

  // Executor thread only.
  BlockPool pool_;
  Scheduler scheduler_;
  ActiveRequests active_;
  std::optional<absl::Time> forward_end_;  // of the last step, unless the loop has waited since
  std::mt19937_64 seeds_;                  // for requests that bring none
  StepBatch batch_;
  ForwardResult result_;
  StepReport report_;  // of the step in progress; preemptions of a failed step go with the next
  Sampler::Scratch scratch_;
  const StepOutput output_;
  std::vector<absl::StatusOr<std::optional<TokenInfo>>> tokens_;  // of the step, one per piece

  std::thread thread_;
};

void Executor::Impl::Run() {
  while (true) {
    if (active_.empty()) {
      forward_end_.reset();
      queue_->Await(clock_->Now() + kHeartbeat);
    }
    bool stopping;
    absl::Time stop_by;
    {
      absl::MutexLock lock(&mu_);
      stopping = stopping_;
      stop_by = stop_by_;
    }
    if (stopping && clock_->Now() >= stop_by) break;
    Step();
    NoteProgress();
    // The queue was closed before `stopping_` was set, so this step took its last.
    if (stopping && active_.empty()) break;
  }
  EndAll();
}

void Executor::Impl::Step() {
  const absl::Time begin = clock_->Now();
  AcceptArrivals();
  EndExpired(begin);
  const StepPlan plan = scheduler_.Plan(begin);
  NoteAdmissions(plan, begin);
  if (!plan.work.empty()) {
    BuildStepBatch(plan, active_, dimensions_.kv_block_size, &batch_);
    if (const absl::Status status = RunModel(); status.ok()) {
      const absl::Time now = clock_->Now();
      scheduler_.Commit(plan, now - begin);
      ReadTokens(plan);
      Count(plan, now - begin);
      Publish(plan, now);
    } else {
      FailStep(plan, status);
    }
  }
  observer_->OnLoad({static_cast<uint32_t>(scheduler_.num_waiting()),
                     static_cast<uint32_t>(scheduler_.num_running()),
                     static_cast<uint32_t>(pool_.num_blocks()),
                     static_cast<uint32_t>(pool_.num_free())});
}

void Executor::Impl::AcceptArrivals() {
  RequestQueue::Arrivals arrivals = queue_->Take();
  for (auto& [ticket, request] : arrivals.requests) Accept(ticket, std::move(request));
  for (const RequestTicket ticket : arrivals.cancelled) {
    const auto found = active_.find(ticket);
    if (found == active_.end()) continue;
    End(found->second.get(), absl::CancelledError("the request was cancelled"));
  }
}

void Executor::Impl::Accept(RequestTicket ticket, std::unique_ptr<Request> request) {
  auto added = active_.emplace(
      ticket, std::make_unique<ActiveRequest>(ticket, std::move(request), seeds_(), dimensions_));
  ActiveRequest* active = added.first->second.get();
  if (active->num_prompt_tokens() > dimensions_.max_context_tokens ||
      !scheduler_.Fits(active->sequence)) {
    End(active,
        absl::ResourceExhaustedError(absl::StrCat(
            active->num_prompt_tokens(), " prompt tokens and ", active->max_output_tokens,
            " more do not fit a KV cache of ", int64_t{pool_.num_blocks()} * pool_.block_size(),
            " tokens and a context of ", dimensions_.max_context_tokens)));
    return;
  }
  scheduler_.Add(&active->sequence);
}

void Executor::Impl::EndExpired(absl::Time now) {
  std::vector<ActiveRequest*> expired;
  for (const auto& [ticket, request] : active_) {
    if (request->request->deadline <= now) expired.push_back(request.get());
  }
  for (ActiveRequest* request : expired) {
    End(request, absl::DeadlineExceededError("the request's deadline has passed"));
  }
}

void Executor::Impl::NoteAdmissions(const StepPlan& plan, absl::Time now) {
  report_.num_preemptions += static_cast<uint32_t>(plan.preempted.size());
  for (const Sequence* sequence : plan.admitted) {
    ActiveRequest& request = *active_.at(sequence->id);
    const uint32_t num_cached = request.AdvancePrompt(sequence->num_cached);
    request.usage.cached_prompt_tokens += num_cached;
    report_.num_cached_prompt_tokens += num_cached;
    if (request.scheduled) continue;
    request.scheduled = true;
    request.schedule_time = now;
    queue_->Release(1);
    observer_->OnAdmitted(now - request.request->submit_time);
  }
}

absl::Status Executor::Impl::RunModel() {
  if (forward_end_.has_value()) report_.overhead = clock_->Now() - *forward_end_;
  forward_end_.reset();
  try {
    const absl::Status status = model_->Forward(batch_.forward, &result_);
    if (!status.ok()) {
      return absl::InternalError(absl::StrCat("the model failed: ", status.message()));
    }
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("the model failed: ", e.what()));
  }
  forward_end_ = clock_->Now();
  return CheckResult(batch_.forward, result_, dimensions_);
}

// Whatever went wrong, what the step's sequences have in the cache is not to be trusted.
void Executor::Impl::FailStep(const StepPlan& plan, const absl::Status& status) {
  spdlog::error("a step of {} positions of {} requests failed: {}", batch_.forward.num_tokens(),
                plan.work.size(), std::string(status.message()));
  for (const PlannedWork& work : plan.work) {
    scheduler_.Distrust(work.sequence);
    End(Of(work), status);
  }
}

void Executor::Impl::Count(const StepPlan& plan, absl::Duration elapsed) {
  report_.phase = plan.num_prefill_tokens == 0  ? StepPhase::kDecode
                  : plan.num_decode_tokens == 0 ? StepPhase::kPrefill
                                                : StepPhase::kMixed;
  report_.duration = elapsed;
  report_.num_tokens = static_cast<uint32_t>(batch_.forward.num_tokens());
  report_.layer_slots =
      SumSlotsByLayer(result_, dimensions_.num_layers, batch_.forward.num_tokens());
  const auto rows = result_.expert_rows.begin();
  for (int32_t layer = 0; layer < dimensions_.num_layers; ++layer) {
    const auto begin = rows + int64_t{layer} * dimensions_.num_experts;
    report_.expert_tokens.emplace_back(begin, begin + dimensions_.num_experts);
  }
  for (size_t i = 0; i < plan.work.size(); ++i) {
    CountPiece(output_.PieceAt(i, Of(plan.work[i])), plan.work[i]);
    if (tokens_[i].ok() && tokens_[i]->has_value()) ++report_.num_generated_tokens;
  }
  observer_->OnStep(std::exchange(report_, StepReport()));
}

void Executor::Impl::CountPiece(const StepPiece& piece, const PlannedWork& work) {
  const SlotCounts slots = SumSlots(result_, dimensions_.num_layers, piece.token_begin,
                                    piece.token_begin + piece.num_tokens);
  ActiveRequest* request = piece.request;
  request->usage.positions += static_cast<uint64_t>(piece.num_tokens);
  request->usage.slots += slots;
  (work.prefill ? report_.prefill_slots : report_.decode_slots) += slots;
  OtherWork& other = work.prefill ? report_.prefill_work : report_.decode_work;
  other.num_positions += static_cast<uint64_t>(work.count);
  other.num_keys_attended +=
      KeysAttended(work.begin, work.begin + work.count, dimensions_.sliding_window);
  other.num_logit_rows += static_cast<uint64_t>(piece.row_end - piece.row_begin);
  report_.num_prompt_tokens += request->AdvancePrompt(work.begin + work.count);
}

void Executor::Impl::ReadTokens(const StepPlan& plan) {
  tokens_.clear();
  for (size_t i = 0; i < plan.work.size(); ++i) {
    tokens_.push_back(output_.Read(output_.PieceAt(i, Of(plan.work[i]))));
  }
}

void Executor::Impl::Publish(const StepPlan& plan, absl::Time now) {
  for (size_t i = 0; i < plan.work.size(); ++i) {
    PublishTo(Of(plan.work[i]), std::move(tokens_[i]), now);
  }
}

void Executor::Impl::PublishTo(ActiveRequest* request,
                               absl::StatusOr<std::optional<TokenInfo>> token, absl::Time now) {
  if (!token.ok()) {
    scheduler_.Distrust(&request->sequence);
    return End(request, token.status());
  }
  if (!request->ran_every_token()) return;
  if (request->owes_prompt_infos()) {
    request->request->sink->OnPromptTokens(request->TakePromptInfos());
  }
  if (token->has_value()) return HandOver(request, **std::move(token), now);
  End(request, absl::OkStatus(), ReasonWithoutToken(*request));
}

void Executor::Impl::HandOver(ActiveRequest* request, TokenInfo token, absl::Time now) {
  const int32_t id = token.id;
  const bool is_first = request->num_output_tokens() == 0;
  if (is_first) {
    request->first_token_time = now;
    observer_->OnFirstToken(now - request->request->submit_time);
  } else {
    observer_->OnNextToken(now - request->last_token_time);
  }
  request->last_token_time = now;
  observer_->OnTokenExperts(static_cast<double>(token.experts) / dimensions_.num_layers);
  request->sampler.Append(id);
  request->sequence.tokens.push_back(id);
  const TokenSink::Next next = request->request->sink->OnToken(std::move(token));
  if (IsStopToken(request->request->sampling, id)) {
    End(request, absl::OkStatus(), FinishReason::kStopToken);
  } else if (next == TokenSink::Next::kStop) {
    End(request, absl::OkStatus(), FinishReason::kStopSequence);
  } else if (request->num_output_tokens() >= request->max_output_tokens) {
    End(request, absl::OkStatus(), FinishReason::kLength);
  } else if (request->request->matcher != nullptr) {
    request->request->matcher->Append(id);
  }
}

void Executor::Impl::End(ActiveRequest* request, absl::Status status, FinishReason reason) {
  if (!request->scheduled) queue_->Release(1);
  scheduler_.Remove(&request->sequence);
  request->CloseUsage(clock_->Now());
  const auto node = active_.extract(request->sequence.id);
  request->request->sink->OnFinish({std::move(status), reason, request->usage});
}

void Executor::Impl::EndAll() {
  AcceptArrivals();
  std::vector<ActiveRequest*> left;
  for (const auto& [ticket, request] : active_) left.push_back(request.get());
  for (ActiveRequest* request : left) {
    End(request, absl::UnavailableError("the server is shutting down"));
  }
}

Executor::Executor(const Options& options, Model* model, RequestQueue* queue,
                   StepObserver* observer, const Clock* clock)
    : impl_(std::make_unique<Impl>(options, model, queue, observer, clock)) {}

Executor::~Executor() { impl_->StopBy(absl::InfinitePast()); }

void Executor::Start() { impl_->Start(); }

void Executor::Drain(absl::Duration timeout) { impl_->Drain(timeout); }

absl::Time Executor::last_progress() const { return impl_->last_progress(); }

}  // namespace adamoe
