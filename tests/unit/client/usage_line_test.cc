#include "client/cli/usage_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adamoe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(UsageLineTest, SaysWhatARequestCost) {
  v1::GetModelInfoResponse info;
  info.set_experts_per_token(3);
  v1::Usage usage;
  usage.set_prompt_tokens(12);
  usage.set_cached_prompt_tokens(8);
  usage.set_completion_tokens(11);
  // 14 positions, 2 layers, k = 3: 84 slots.
  usage.set_true_slots(42);
  usage.set_null_slots(40);
  usage.set_dropped_slots(2);
  usage.set_executed_expert_flops(42);
  usage.set_saved_expert_flops(42);
  usage.set_baseline_expert_flops(56);
  usage.mutable_prefill_time()->set_nanos(250000000);
  usage.mutable_decode_time()->set_seconds(2);
  EXPECT_EQ(UsageLine(usage, info),
            "12 prompt tokens (8 cached), 11 tokens in 2.25 s, 5.0 tok/s, 1.50 experts per token "
            "and layer, "
            "25.0 % of expert FLOPs saved against the baseline");
}

TEST(UsageLineTest, LeavesOutWhatCannotBeSaid) {
  v1::GetModelInfoResponse info;
  v1::Usage usage;
  usage.set_prompt_tokens(1);
  usage.set_completion_tokens(1);
  const std::string line = UsageLine(usage, info);
  EXPECT_EQ(line, "1 prompt tokens, 1 tokens in 0.00 s");
}

TEST(UsageLineTest, MoreThanTheBaselineIsANegativeSaving) {
  v1::GetModelInfoResponse info;
  v1::Usage usage;
  usage.set_executed_expert_flops(3);
  usage.set_baseline_expert_flops(2);
  EXPECT_THAT(UsageLine(usage, info), HasSubstr("-50.0 % of expert FLOPs"));
  EXPECT_THAT(UsageLine(usage, info), Not(HasSubstr("\n")));
}

}  // namespace
}  // namespace adamoe
