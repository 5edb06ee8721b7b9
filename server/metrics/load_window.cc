#include "server/metrics/load_window.h"

#include <algorithm>

namespace adamoe {

LoadWindow::LoadWindow(const Clock* clock) : clock_(clock), start_(clock->Now()) {}

int64_t LoadWindow::SecondsSinceStart() const {
  // A clock set back must not make the index negative.
  return std::max<int64_t>(0, absl::ToInt64Seconds(clock_->Now() - start_));
}

void LoadWindow::AddToken(double mean_experts_per_layer) {
  const int64_t now = SecondsSinceStart();
  absl::MutexLock lock(&mu_);
  Slice& slice = slices_[now % slices_.size()];
  if (slice.second != now) slice = {.second = now};
  ++slice.num_tokens;
  slice.experts += mean_experts_per_layer;
}

LoadWindow::Means LoadWindow::Get() const {
  const int64_t now = SecondsSinceStart();
  // In the first seconds the running one counts too: there is nothing else to go by.
  const bool young = now < kSeconds;
  uint64_t num_tokens = 0;
  double experts = 0;
  {
    absl::MutexLock lock(&mu_);
    for (const Slice& slice : slices_) {
      if (slice.second < 0 || slice.second < now - kSeconds) continue;
      if (slice.second > now || (slice.second == now && !young)) continue;
      num_tokens += slice.num_tokens;
      experts += slice.experts;
    }
  }
  if (num_tokens == 0) return {};
  const double elapsed =
      young ? std::max(1.0, absl::ToDoubleSeconds(clock_->Now() - start_)) : double{kSeconds};
  return {num_tokens / elapsed, experts / num_tokens};
}

}  // namespace adamoe
