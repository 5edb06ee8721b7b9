#include "server/rpc/call_record.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "server/rpc/grpc_codec.h"
#include "server/rpc/request_errors.h"

namespace adamoe {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

CallRecord::CallRecord(const CallContext& context, const char* method, absl::Time deadline)
    : context_(context), method_(method), arrival_(absl::Now()), deadline_(deadline) {}

absl::StatusOr<RequestTicket> CallRecord::Submit(std::unique_ptr<Request> request) {
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
  context_.metrics->CountRequest(OutcomeOf(status));
  const absl::Duration duration = absl::Now() - arrival_;
  if (accepted_) {
    context_.metrics->ObserveRequest(duration, usage.prompt_tokens, usage.completion_tokens);
  }
  spdlog::debug("{} {}: {} after {}, {} prompt tokens, {} generated", method_,
                absl::CHexEscape(request_id_),
                status.ok() ? "ok" : absl::CHexEscape(status.ToString()),
                absl::FormatDuration(duration), usage.prompt_tokens, usage.completion_tokens);
}

}  // namespace adamoe
