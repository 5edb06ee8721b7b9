#include "server/base/ticker.h"

#include <gtest/gtest.h>

#include <atomic>

#include "absl/time/clock.h"

namespace adamoe {
namespace {

TEST(TickerTest, CallsUntilItGoes) {
  std::atomic<int> calls{0};
  {
    const Ticker ticker(absl::Milliseconds(1), [&calls] { ++calls; });
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (calls < 3 && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
  }
  const int before = calls;
  EXPECT_GE(before, 3);
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(calls, before);
}

TEST(TickerTest, NeedNotWaitOutItsPeriod) {
  const absl::Time start = absl::Now();
  {
    const Ticker ticker(absl::Hours(1), [] { FAIL(); });
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

}  // namespace
}  // namespace adamoe
