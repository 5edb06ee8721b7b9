// One Generate or Score as the counters and the log see it: when it came, until when it has time,
// how it ended. Counts each call once. Thread-compatible.
#ifndef ADAMOE_SERVER_RPC_CALL_RECORD_H_
#define ADAMOE_SERVER_RPC_CALL_RECORD_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/request/request.h"
#include "server/rpc/call_context.h"

namespace adamoe {

class CallRecord {
 public:
  // `method` names the call in the log. `deadline` as gRPC reports it: infinite when the client set
  // none.
  CallRecord(const CallContext& context, const char* method, absl::Time deadline);

  void set_request_id(std::string id) { request_id_ = std::move(id); }

  // Hands a request to the executor. RESOURCE_EXHAUSTED, when the queue is full, says when to try
  // again.
  absl::StatusOr<RequestTicket> Submit(std::unique_ptr<Request> request);

  // What the client is told when a request ends with `status`: a call cancelled at its deadline has
  // run out of time. A client's own timer may be ahead of the server's, as the timeout on the wire
  // is rounded up by as much as a hundredth.
  absl::Status Refine(absl::Status status) const;

  // The call has ended; before the client learns of it, so that a scrape that follows finds it
  // counted.
  void Ended(const absl::Status& status, const Usage& usage);

 private:
  const CallContext context_;
  const char* const method_;
  const absl::Time arrival_;
  const absl::Time deadline_;
  std::string request_id_;
  bool accepted_ = false;  // the queue has taken a request of it
  bool ended_ = false;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_CALL_RECORD_H_
