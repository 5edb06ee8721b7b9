// One Generate or Score as the counters and the log see it: who sent it, when it came, until when
// it has time, how it ended. Counts and logs each call once. Knows nothing of gRPC.
// Thread-compatible.
#ifndef ADAMOE_SERVER_SERVING_CALL_RECORD_H_
#define ADAMOE_SERVER_SERVING_CALL_RECORD_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/request/request.h"
#include "server/security/authenticator.h"
#include "server/serving/call_context.h"
#include "server/serving/call_origin.h"

namespace adamoe {

// How requests_total counts a request that ended with `status`.
RequestOutcome OutcomeOf(const absl::Status& status);

class CallRecord {
 public:
  // `rpc` names the method in the log. `deadline` as gRPC reports it: infinite when the client set
  // none.
  CallRecord(const CallContext& context, const char* rpc, absl::Time deadline, CallOrigin origin);

  // UNAUTHENTICATED when the server wants a token and the call has no valid one.
  absl::Status Authenticate();

  void set_request_id(std::string id) { request_id_ = std::move(id); }
  // What the log is to hold of the prompt, where it is to hold any.
  bool wants_prompt() const { return context_.log != nullptr && context_.log->wants_prompts(); }
  void set_prompt(std::string prompt) { prompt_ = std::move(prompt); }

  // Hands a request to the executor. RESOURCE_EXHAUSTED, when the queue is full or the call's token
  // has as many calls as it may have, says when to try again. REQUIRES: Authenticate was ok.
  absl::StatusOr<RequestTicket> Submit(std::unique_ptr<Request> request);

  // What the client is told when a request ends with `status`: a call cancelled at its deadline has
  // run out of time. A client's own timer may be ahead of the server's, as the timeout on the wire
  // is rounded up by as much as a hundredth.
  absl::Status Refine(absl::Status status) const;

  // The call has ended; before the client learns of it, so that a scrape that follows finds it
  // counted.
  void Ended(const absl::Status& status, const Usage& usage);

 private:
  void Log(const absl::Status& status, const Usage& usage, absl::Duration duration) const;

  const CallContext context_;
  const char* const rpc_;
  const absl::Time arrival_;
  const absl::Time deadline_;
  const CallOrigin origin_;
  std::string request_id_;
  std::optional<std::string> prompt_;
  std::shared_ptr<const Caller> caller_;  // null: the server wants no tokens, or not known yet
  Caller::Place place_;                   // from the first Submit until the end
  bool accepted_ = false;                 // the queue has taken a request of it
  bool ended_ = false;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CALL_RECORD_H_
