#include "client/bench/percentile.h"

#include <gtest/gtest.h>

namespace adamoe {
namespace {

TEST(PercentileTest, NothingOfNothing) {
  EXPECT_EQ(Percentile({}, 50), std::nullopt);
  EXPECT_EQ(Summarize({}).max, std::nullopt);
}

TEST(PercentileTest, OneValueIsEveryPercentile) {
  for (double percent : {0.0, 50.0, 99.0, 100.0}) EXPECT_EQ(Percentile({7}, percent), 7);
}

TEST(PercentileTest, InterpolatesBetweenNeighboursWhateverTheOrder) {
  EXPECT_DOUBLE_EQ(*Percentile({4, 1, 3, 2}, 50), 2.5);
  EXPECT_DOUBLE_EQ(*Percentile({4, 1, 3, 2}, 0), 1);
  EXPECT_DOUBLE_EQ(*Percentile({4, 1, 3, 2}, 100), 4);
  EXPECT_DOUBLE_EQ(*Percentile({10, 20}, 90), 19);
}

TEST(PercentileTest, SummaryOfAHundredAndOneValues) {
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  const Percentiles summary = Summarize(values);
  EXPECT_DOUBLE_EQ(*summary.p50, 50);
  EXPECT_DOUBLE_EQ(*summary.p90, 90);
  EXPECT_DOUBLE_EQ(*summary.p99, 99);
  EXPECT_DOUBLE_EQ(*summary.max, 100);
}

}  // namespace
}  // namespace adamoe
