#include "client/bench/stall_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adamoe {
namespace {

absl::Time At(int milliseconds) { return absl::UnixEpoch() + absl::Milliseconds(milliseconds); }

StreamResult Stream(std::vector<int> milliseconds) {
  StreamResult result;
  for (int at : milliseconds) result.token_times.push_back(At(at));
  return result;
}

TEST(StallReportTest, SortsGapsByTheWindowTheyLieIn) {
  // Calm from 100 to 200, the prompt from 200 to 300.
  const std::vector<ProbeWindow> windows = {{At(100), At(200), At(300)}};
  // Gaps: 60 (begins before the calm), 20 (calm), 40 (into the prompt), 90 (out of it), 10 (after).
  const StallReport report = MakeStallReport({Stream({80, 140, 160, 205, 295, 310, 320})}, windows);
  EXPECT_EQ(report.gaps_before, 1u);
  EXPECT_NEAR(*report.before.max, 0.020, 1e-9);
  EXPECT_EQ(report.gaps_during, 3u);
  EXPECT_NEAR(*report.during.max, 0.090, 1e-9);
  EXPECT_NEAR(*report.during.p50, 0.045, 1e-9);
  EXPECT_NEAR(*report.probe_first_token.p50, 0.1, 1e-9);
}

TEST(StallReportTest, AStreamHeldUpForTheWholePromptCounts) {
  const std::vector<ProbeWindow> windows = {{At(0), At(100), At(900)}};
  const StallReport report = MakeStallReport({Stream({10, 20, 30, 1000})}, windows);
  EXPECT_EQ(report.gaps_during, 1u);
  EXPECT_NEAR(*Ratio(report.during.p99, report.before.p99), 97, 1e-6);
}

TEST(StallReportTest, AddsUpSeveralProbes) {
  const std::vector<ProbeWindow> windows = {{At(0), At(100), At(200)}, {At(300), At(400), At(500)}};
  const StallReport report =
      MakeStallReport({Stream({50, 60, 150, 160}), Stream({350, 360, 450, 460})}, windows);
  EXPECT_EQ(report.gaps_before, 2u);
  EXPECT_EQ(report.gaps_during, 4u);
}

TEST(StallReportTest, NoRatioWithoutGaps) {
  const StallReport report = MakeStallReport({}, {});
  EXPECT_EQ(Ratio(report.during.p99, report.before.p99), std::nullopt);
  EXPECT_TRUE(ToJson(report)["ratio"]["p99"].is_null());
  EXPECT_THAT(ToText(report), testing::HasSubstr("-"));
}

}  // namespace
}  // namespace adamoe
