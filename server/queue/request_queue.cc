#include "server/queue/request_queue.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace adamoe {

RequestQueue::RequestQueue(const Clock* clock, size_t max_queued)
    : clock_(clock), max_queued_(max_queued) {}

absl::StatusOr<RequestTicket> RequestQueue::Submit(std::unique_ptr<Request> request) {
  absl::MutexLock lock(&mu_);
  if (closed_) return absl::UnavailableError("the server is shutting down");
  if (num_waiting_ >= max_queued_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", num_waiting_, " requests wait"));
  }
  const RequestTicket ticket = next_ticket_++;
  request->submit_time = clock_->Now();
  ++num_waiting_;
  arrivals_.requests.emplace_back(ticket, std::move(request));
  return ticket;
}

void RequestQueue::Cancel(RequestTicket ticket) {
  absl::MutexLock lock(&mu_);
  arrivals_.cancelled.push_back(ticket);
}

void RequestQueue::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
  woken_ = true;
}

bool RequestQueue::closed() const {
  absl::MutexLock lock(&mu_);
  return closed_;
}

size_t RequestQueue::num_waiting() const {
  absl::MutexLock lock(&mu_);
  return num_waiting_;
}

void RequestQueue::Await(absl::Time until) {
  const auto has_news = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return woken_ || !arrivals_.requests.empty() || !arrivals_.cancelled.empty();
  };
  const absl::Duration patience = until - clock_->Now();
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(&has_news), patience);
  woken_ = false;
}

RequestQueue::Arrivals RequestQueue::Take() {
  Arrivals taken;
  absl::MutexLock lock(&mu_);
  std::swap(taken, arrivals_);
  return taken;
}

void RequestQueue::Release(size_t count) {
  absl::MutexLock lock(&mu_);
  num_waiting_ -= count;
}

void RequestQueue::Wake() {
  absl::MutexLock lock(&mu_);
  woken_ = true;
}

}  // namespace adamoe
