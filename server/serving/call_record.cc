#include "server/serving/call_record.h"

#include <utility>

#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

RequestOutcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return RequestOutcome::kOk;
    case absl::StatusCode::kCancelled:
      return RequestOutcome::kCancelled;
    case absl::StatusCode::kDeadlineExceeded:
      return RequestOutcome::kDeadline;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return RequestOutcome::kRejected;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:  // another model than the one served
    case absl::StatusCode::kUnauthenticated:
      return RequestOutcome::kInvalid;
    default:
      return RequestOutcome::kError;
  }
}

CallRecord::CallRecord(const CallContext& context, const char* rpc, absl::Time deadline,
                       CallOrigin origin)
    : context_(context),
      rpc_(rpc),
      arrival_(absl::Now()),
      deadline_(deadline),
      origin_(std::move(origin)) {}

absl::Status CallRecord::Authenticate() {
  ASSIGN_OR_RETURN(caller_, adamoe::Authenticate(context_.authenticator, origin_.authorization));
  return absl::OkStatus();
}

absl::StatusOr<RequestTicket> CallRecord::Submit(std::unique_ptr<Request> request) {
  if (caller_ != nullptr && place_ == nullptr) {
    auto place = Caller::Enter(caller_);
    if (!place.ok()) return WithRetryAfter(place.status(), kRetryAfter);
    place_ = *std::move(place);
  }
  auto ticket = context_.queue->Submit(std::move(request));
  if (absl::IsResourceExhausted(ticket.status())) {
    return WithRetryAfter(ticket.status(), kRetryAfter);
  }
  if (!ticket.ok()) return ticket;
  accepted_ = true;
  context_.metrics->SetWaiting(static_cast<uint32_t>(context_.queue->num_waiting()));
  return ticket;
}

absl::Status CallRecord::Refine(absl::Status status) const {
  if (!absl::IsCancelled(status) || deadline_ == absl::InfiniteFuture()) return status;
  const absl::Duration slack = absl::Milliseconds(20) + (deadline_ - arrival_) / 80;
  if (absl::Now() + slack < deadline_) return status;
  return absl::DeadlineExceededError("the deadline has passed");
}

void CallRecord::Ended(const absl::Status& status, const Usage& usage) {
  if (std::exchange(ended_, true)) return;
  place_ = nullptr;
  context_.metrics->CountRequest(OutcomeOf(status));
  const absl::Duration duration = absl::Now() - arrival_;
  if (accepted_) {
    context_.metrics->ObserveRequest(duration, usage.prompt_tokens, usage.completion_tokens);
  }
  if (context_.log != nullptr) Log(status, usage, duration);
}

void CallRecord::Log(const absl::Status& status, const Usage& usage,
                     absl::Duration duration) const {
  context_.log->Write({.request_id = request_id_,
                       .rpc = rpc_,
                       .outcome = NameOf(OutcomeOf(status)),
                       .status = status,
                       .usage = usage,
                       .num_layers = context_.model->num_layers,
                       .duration = duration,
                       .peer = origin_.peer,
                       .caller = caller_ == nullptr ? "" : caller_->name(),
                       .trace = origin_.trace,
                       .prompt = prompt_});
}

}  // namespace adamoe
