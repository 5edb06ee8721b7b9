// Where requests wait for the executor: bounded and thread-safe. rpc/ submits and cancels from any
// thread; the executor thread takes.
//
// A request holds a place from Submit until the executor says that it was scheduled or has ended
// (Release), so the bound counts every request that is not running yet, wherever it waits.
#ifndef ADAMOE_SERVER_QUEUE_REQUEST_QUEUE_H_
#define ADAMOE_SERVER_QUEUE_REQUEST_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/request/request.h"

namespace adamoe {

// Names a submitted request for Cancel; unique in a process.
using RequestTicket = uint64_t;

class RequestQueue {
 public:
  // What has come in since the last Take, in order of arrival.
  struct Arrivals {
    std::vector<std::pair<RequestTicket, std::unique_ptr<Request>>> requests;
    std::vector<RequestTicket> cancelled;
  };

  // `clock` must outlive the queue. REQUIRES: max_queued >= 1.
  RequestQueue(const Clock* clock, size_t max_queued);

  // Takes the request; its sink will get OnFinish. Errors leave the sink untouched:
  // RESOURCE_EXHAUSTED when max_queued requests wait, UNAVAILABLE after Close.
  absl::StatusOr<RequestTicket> Submit(std::unique_ptr<Request> request) ABSL_LOCKS_EXCLUDED(mu_);

  // Asks the executor to end a request with CANCELLED. Without effect on one that has ended.
  void Cancel(RequestTicket ticket) ABSL_LOCKS_EXCLUDED(mu_);

  // Refuses requests from now on, and wakes the executor.
  void Close() ABSL_LOCKS_EXCLUDED(mu_);
  bool closed() const ABSL_LOCKS_EXCLUDED(mu_);

  // Requests that hold a place.
  size_t num_waiting() const ABSL_LOCKS_EXCLUDED(mu_);

  // Executor side. Waits until something can be taken, the queue was closed or woken since the last
  // Await, or `until` has come. The time left until then is read off the clock once, at the start.
  void Await(absl::Time until) ABSL_LOCKS_EXCLUDED(mu_);
  Arrivals Take() ABSL_LOCKS_EXCLUDED(mu_);
  // `count` requests have been scheduled for the first time, or have ended before that.
  void Release(size_t count) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends an Await early.
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const Clock* const clock_;
  const size_t max_queued_;

  mutable absl::Mutex mu_;
  Arrivals arrivals_ ABSL_GUARDED_BY(mu_);
  size_t num_waiting_ ABSL_GUARDED_BY(mu_) = 0;
  RequestTicket next_ticket_ ABSL_GUARDED_BY(mu_) = 1;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_QUEUE_REQUEST_QUEUE_H_
