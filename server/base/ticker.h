// A thread that calls a function once per period, until it is destroyed. Thread-compatible.
#ifndef ADAMOE_SERVER_BASE_TICKER_H_
#define ADAMOE_SERVER_BASE_TICKER_H_

#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace adamoe {

class Ticker {
 public:
  // The first call comes one `period` from now. What `tick` uses must outlive the ticker.
  Ticker(absl::Duration period, std::function<void()> tick)
      : tick_(std::move(tick)), thread_([this, period] { Run(period); }) {}

  // Waits for a call under way.
  ~Ticker() {
    {
      absl::MutexLock lock(&mu_);
      ended_ = true;
    }
    thread_.join();
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  void Run(absl::Duration period) ABSL_LOCKS_EXCLUDED(mu_) {
    while (true) {
      {
        absl::MutexLock lock(&mu_);
        if (mu_.AwaitWithTimeout(absl::Condition(&ended_), period)) return;
      }
      tick_();
    }
  }

  const std::function<void()> tick_;
  absl::Mutex mu_;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_BASE_TICKER_H_
