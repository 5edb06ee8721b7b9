#include "client/bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adamoe {
namespace {

using ::testing::HasSubstr;

// A stream that began at 0 and had tokens at these milliseconds.
StreamResult Stream(std::vector<int> milliseconds, absl::Status status = absl::OkStatus()) {
  StreamResult result;
  result.status = std::move(status);
  result.start = absl::UnixEpoch();
  for (int at : milliseconds) result.token_times.push_back(result.start + absl::Milliseconds(at));
  result.end = result.start + absl::Milliseconds(milliseconds.empty() ? 1 : milliseconds.back());
  return result;
}

v1::GetModelInfoResponse Info() {
  v1::GetModelInfoResponse info;
  info.set_experts_per_token(3);
  return info;
}

TEST(ReportTest, LatenciesAreOfRequestsThatEndedWell) {
  const LoadResults results = {absl::Seconds(2),
                               {Stream({100, 110, 130}), Stream({300, 340}),
                                Stream({1000}, absl::DeadlineExceededError("late")),
                                Stream({}, absl::DeadlineExceededError("later")),
                                Stream({}, absl::ResourceExhaustedError("full"))}};
  const Report report = MakeReport(results, Info());
  EXPECT_EQ(report.ok, 2u);
  EXPECT_EQ(report.failed,
            (std::map<std::string, size_t>{{"DEADLINE_EXCEEDED", 2}, {"RESOURCE_EXHAUSTED", 1}}));
  EXPECT_EQ(report.example.at("DEADLINE_EXCEEDED"), "late");
  EXPECT_EQ(report.output_tokens, 6u);
  EXPECT_NEAR(*report.first_token.p50, 0.2, 1e-9);
  EXPECT_NEAR(*report.inter_token.p50, 0.02, 1e-9);
  EXPECT_NEAR(*report.inter_token.max, 0.04, 1e-9);
  EXPECT_NEAR(*report.whole.max, 0.34, 1e-9);
}

TEST(ReportTest, TokensOfOneMessageShareItsGap) {
  const LoadResults results = {absl::Seconds(1), {Stream({10, 50, 50, 50})}};
  const Report report = MakeReport(results, Info());
  EXPECT_NEAR(*report.inter_token.max, 0.04, 1e-9);
  EXPECT_NEAR(*report.inter_token.p50, 0, 1e-9);
}

TEST(ReportTest, SavingIsAgainstTheBaseline) {
  StreamResult stream = Stream({1, 2});
  stream.usage.set_prompt_tokens(9);
  // 10 positions, 4 layers, k = 3: load 1.5 is a quarter less than top-2.
  stream.usage.set_true_slots(60);
  stream.usage.set_null_slots(55);
  stream.usage.set_dropped_slots(5);
  stream.usage.set_executed_expert_flops(60 * 1000);
  stream.usage.set_saved_expert_flops(60 * 1000);
  stream.usage.set_baseline_expert_flops(80 * 1000);
  const Report report = MakeReport({absl::Seconds(1), {stream}}, Info());
  EXPECT_DOUBLE_EQ(*report.experts_per_token, 1.5);
  EXPECT_DOUBLE_EQ(*report.flops_saved, 0.25);
  EXPECT_EQ(report.prompt_tokens, 9u);
  EXPECT_EQ(report.dropped_slots, 5u);
  EXPECT_THAT(ToText(report), HasSubstr("25.0 % saved against the baseline"));
}

TEST(ReportTest, WithoutResultsNothingIsInvented) {
  const Report report = MakeReport({absl::ZeroDuration(), {}}, Info());
  const nlohmann::json json = ToJson(report);
  EXPECT_EQ(json["requests_ok"], 0);
  EXPECT_EQ(json["output_tokens_per_second"], 0);
  EXPECT_TRUE(json["time_to_first_token_seconds"]["p99"].is_null());
  EXPECT_TRUE(json["experts_per_token"].is_null());
  EXPECT_TRUE(json["expert_flops_saved_ratio"].is_null());
  EXPECT_THAT(ToText(report), HasSubstr("0 ok"));
}

}  // namespace
}  // namespace adamoe
