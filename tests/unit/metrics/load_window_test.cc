#include "server/metrics/load_window.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"

namespace adamoe {
namespace {

TEST(LoadWindowTest, NothingIsZero) {
  FakeClock clock;
  const LoadWindow window(&clock);
  EXPECT_EQ(window.Get().tokens_per_second, 0);
  EXPECT_EQ(window.Get().experts_per_token, 0);
}

TEST(LoadWindowTest, AYoungWindowDividesByItsAge) {
  FakeClock clock;
  LoadWindow window(&clock);
  for (int i = 0; i < 30; ++i) window.AddToken(i % 2 == 0 ? 1.0 : 2.0);
  EXPECT_DOUBLE_EQ(window.Get().tokens_per_second, 30);  // at least one second
  clock.Advance(absl::Seconds(3));
  EXPECT_DOUBLE_EQ(window.Get().tokens_per_second, 10);
  EXPECT_DOUBLE_EQ(window.Get().experts_per_token, 1.5);
}

TEST(LoadWindowTest, SteadyLoadShowsItsRate) {
  FakeClock clock;
  LoadWindow window(&clock);
  for (int i = 0; i < 1000; ++i) {
    clock.Advance(absl::Milliseconds(50));
    window.AddToken(1.25);
    if (i > 300) {
      EXPECT_NEAR(window.Get().tokens_per_second, 20, 0.2) << i;
    }
  }
  EXPECT_DOUBLE_EQ(window.Get().experts_per_token, 1.25);
}

TEST(LoadWindowTest, OldTokensLeaveIt) {
  FakeClock clock;
  LoadWindow window(&clock);
  clock.Advance(absl::Seconds(100));
  window.AddToken(3.0);
  clock.Advance(absl::Seconds(9));
  window.AddToken(1.0);
  EXPECT_DOUBLE_EQ(window.Get().experts_per_token, 3.0);  // the running second does not count yet
  clock.Advance(absl::Seconds(1));
  EXPECT_DOUBLE_EQ(window.Get().tokens_per_second, 0.2);
  EXPECT_DOUBLE_EQ(window.Get().experts_per_token, 2.0);
  clock.Advance(absl::Seconds(1));
  EXPECT_DOUBLE_EQ(window.Get().experts_per_token, 1.0);
  clock.Advance(absl::Seconds(9));
  EXPECT_EQ(window.Get().tokens_per_second, 0);
  EXPECT_EQ(window.Get().experts_per_token, 0);
}

}  // namespace
}  // namespace adamoe
