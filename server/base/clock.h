// Where time comes from, so that tests need not wait. Thread-safe.
#ifndef ADAMOE_SERVER_BASE_CLOCK_H_
#define ADAMOE_SERVER_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace adamoe {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_BASE_CLOCK_H_
