#include "server/executor/logits.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace adamoe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(LogitsTest, RefusesRowsThatAreNoDistribution) {
  for (const size_t bad : {0, 7, 8, 18}) {
    std::vector<float> row(19, 1.0f);
    EXPECT_TRUE(CheckLogits(row).ok());
    row[bad] = kNan;
    EXPECT_EQ(CheckLogits(row).code(), absl::StatusCode::kInternal) << bad;
    row[bad] = kInfinity;
    EXPECT_EQ(CheckLogits(row).code(), absl::StatusCode::kInternal) << bad;
    row[bad] = -kInfinity;
    EXPECT_TRUE(CheckLogits(row).ok()) << bad;
  }
  EXPECT_FALSE(CheckLogits(std::vector<float>(5, -kInfinity)).ok());
  EXPECT_FALSE(CheckLogits({}).ok());
}

TEST(LogitsTest, ArgMaxTakesTheLowestOfEquals) {
  EXPECT_EQ(ArgMax({1.0f, 3.0f, 3.0f, 2.0f}), 1);
  EXPECT_EQ(ArgMax(std::vector<float>(1000, 0.0f)), 0);
  EXPECT_EQ(ArgMax({-0.0f, 0.0f}), 0);
  EXPECT_EQ(ArgMax({-kInfinity, -5.0f}), 1);
  for (size_t largest = 0; largest < 21; ++largest) {
    std::vector<float> row(21, -1e30f);
    row[largest] = -1e29f;
    EXPECT_EQ(ArgMax(row), static_cast<int32_t>(largest));
  }
}

TEST(LogitsTest, LogSumExpAgreesWithDoubleArithmeticAndDoesNotOverflow) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 5);
  std::vector<float> row(5000);
  long double sum = 0;
  for (float& logit : row) sum += std::exp(static_cast<long double>(logit = normal(random)));
  EXPECT_NEAR(LogSumExp(row), static_cast<double>(std::log(sum)), 1e-4);
  EXPECT_FLOAT_EQ(LogSumExp({1e30f, 1e30f}), 1e30f);
  EXPECT_FLOAT_EQ(LogSumExp({-1e4f, -kInfinity}), -1e4f);
}

TEST(LogitsTest, TopLogprobsAreSortedLikeliestFirst) {
  const std::vector<float> row = {0.0f, 2.0f, 1.0f, 2.0f, -kInfinity};
  const auto top = TopLogprobs(row, 10.0f, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 1);
  EXPECT_EQ(top[1].id, 3);
  EXPECT_EQ(top[2].id, 2);
  EXPECT_FLOAT_EQ(top[0].logprob, -8.0f);
  EXPECT_FLOAT_EQ(top[2].logprob, -9.0f);
  EXPECT_EQ(TopLogprobs(row, 0, 0).size(), 0u);
  EXPECT_EQ(TopLogprobs(row, 0, 99).size(), 5u);
}

TEST(LogitsTest, TopLogprobsAgreeWithASort) {
  std::mt19937 random(2);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> row(64);
    std::vector<int32_t> ids(64);
    for (int32_t i = 0; i < 64; ++i) {
      row[i] = static_cast<float>(random() % 20);  // many are equal
      ids[i] = i;
    }
    std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return row[a] > row[b]; });
    const auto top = TopLogprobs(row, 0, 20);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(top[i].id, ids[i]);
  }
}

}  // namespace
}  // namespace adamoe
