#include "tests/gpu/bench/roofline.h"

#include <gtest/gtest.h>

#include "tests/gpu/bench/shapes.h"

namespace adamoe {
namespace {

constexpr DeviceRates kH200{.bytes_per_second = 4.3e12, .flops_per_second = 790e12};

double DecodeTokensPerSecond(const ModelConfig& config, int64_t batch, double load) {
  return batch / StepSecondsAtLeast(config, DecodeWork(batch, load, 0), kH200);
}

// Linear layers only, a row of logits for every token: as limits of prefill are usually given.
double PrefillTokensPerSecond(const ModelConfig& config, double load) {
  const StepWork work{.num_tokens = 8192, .num_logit_rows = 8192, .load = load};
  return work.num_tokens / StepSecondsAtLeast(config, work, kH200);
}

TEST(RooflineTest, BytesOfMixtral8x7B) {
  const ModelConfig config = Mixtral8x7B(8, 3);
  const double fixed = StepBytes(config, DecodeWork(1, 0.0, 0));
  const double one = StepBytes(config, DecodeWork(1, 1.0, 0));
  EXPECT_NEAR(fixed, 2.953e9, 0.004e9);
  EXPECT_NEAR(one - fixed, 11.274e9, 0.001e9);
  EXPECT_NEAR(StepBytes(config, DecodeWork(1, 0.0, 1000)) - fixed, 1000 * 131072.0, 1.0);
}

// At 4.3 TB/s and 790 TFLOP/s.
TEST(RooflineTest, LimitsOfMixtral8x7BOnAnH200) {
  const ModelConfig plain = Mixtral8x7B(0, 2);
  const ModelConfig adamoe = Mixtral8x7B(8, 3);
  EXPECT_NEAR(DecodeTokensPerSecond(plain, 1, 2.0), 169, 1);
  EXPECT_NEAR(DecodeTokensPerSecond(adamoe, 1, 1.7), 194, 1);
  EXPECT_NEAR(DecodeTokensPerSecond(plain, 8, 2.0), 409, 2);
  EXPECT_NEAR(DecodeTokensPerSecond(adamoe, 8, 1.7), 431, 2);
  EXPECT_NEAR(DecodeTokensPerSecond(plain, 32, 2.0), 1477, 4);
  EXPECT_NEAR(DecodeTokensPerSecond(adamoe, 32, 1.7), 1478, 4);
  EXPECT_NEAR(PrefillTokensPerSecond(plain, 2.0), 30980, 40);
  EXPECT_NEAR(PrefillTokensPerSecond(adamoe, 1.7), 35716, 40);
}

TEST(RooflineTest, NullExpertsPayInPrefillThroughoutAndInDecodeAtSmallBatches) {
  const ModelConfig plain = Mixtral8x7B(0, 2);
  const ModelConfig adamoe = Mixtral8x7B(8, 3);
  EXPECT_DOUBLE_EQ(BalancedLoad(plain), 2.0);
  EXPECT_DOUBLE_EQ(BalancedLoad(adamoe), 1.5);
  const auto gain = [&](const StepWork& with, const StepWork& without) {
    return StepSecondsAtLeast(plain, without, kH200) / StepSecondsAtLeast(adamoe, with, kH200);
  };
  EXPECT_GT(gain(DecodeWork(1, 1.5, 300), DecodeWork(1, 2.0, 300)), 1.25);
  EXPECT_LT(gain(DecodeWork(128, 1.5, 300), DecodeWork(128, 2.0, 300)), 1.01);
  EXPECT_GT(gain(PrefillWork(8192, 1.5), PrefillWork(8192, 2.0)), 1.2);
}

TEST(RooflineTest, DistinctExperts) {
  EXPECT_DOUBLE_EQ(DistinctExperts(8, 2.0, 1), 2.0);
  EXPECT_NEAR(DistinctExperts(8, 2.0, 8), 7.199, 0.001);
  EXPECT_NEAR(DistinctExperts(8, 1.5, 1000), 8.0, 1e-9);
  EXPECT_DOUBLE_EQ(DistinctExperts(8, 0.0, 5), 0.0);
}

TEST(RooflineTest, AttentionGrowsWithTheSquareOfAPrompt) {
  const ModelConfig config = Mixtral8x7B(0, 2);
  const StepWork work = PrefillWork(8192, 2.0);
  StepWork without = work;
  without.keys_per_token = 0.0;
  // Scores and sums of 32 heads of 128 over 4096.5 keys in 32 layers.
  EXPECT_NEAR(StepFlops(config, work) - StepFlops(config, without),
              8192.0 * 32 * 4 * 32 * 128 * 4096.5, 1e9);
}

}  // namespace
}  // namespace adamoe
