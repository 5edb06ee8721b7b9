// Generated tokens and their experts over the last ten seconds, in slices of one second.
// Thread-safe.
#ifndef ADAMOE_SERVER_METRICS_LOAD_WINDOW_H_
#define ADAMOE_SERVER_METRICS_LOAD_WINDOW_H_

#include <array>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/clock.h"

namespace adamoe {

class LoadWindow {
 public:
  struct Means {
    double tokens_per_second = 0;
    double experts_per_token = 0;  // per layer; 0 when there was no token
  };

  // `clock` must outlive the window.
  explicit LoadWindow(const Clock* clock);

  // One generated token, which used so many true experts in the mean over layers.
  void AddToken(double mean_experts_per_layer) ABSL_LOCKS_EXCLUDED(mu_);

  // Over the last ten full seconds; over the time since construction while that is shorter (at
  // least one second).
  Means Get() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  static constexpr int64_t kSeconds = 10;

  struct Slice {
    int64_t second = -1;  // which second since start_ it holds; -1: none
    uint64_t num_tokens = 0;
    double experts = 0;
  };

  int64_t SecondsSinceStart() const;

  const Clock* const clock_;
  const absl::Time start_;

  mutable absl::Mutex mu_;
  std::array<Slice, kSeconds + 1> slices_
      ABSL_GUARDED_BY(mu_);  // the current second and ten full ones
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_METRICS_LOAD_WINDOW_H_
