// A clock that stands still until it is told to move. Thread-safe.
#ifndef ADAMOE_TESTS_FAKES_FAKE_CLOCK_H_
#define ADAMOE_TESTS_FAKES_FAKE_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "server/base/clock.h"

namespace adamoe {

class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixNanos(nanos_.load()); }
  void Advance(absl::Duration duration) { nanos_ += absl::ToInt64Nanoseconds(duration); }

 private:
  std::atomic<int64_t> nanos_{int64_t{1} << 60};
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_FAKE_CLOCK_H_
