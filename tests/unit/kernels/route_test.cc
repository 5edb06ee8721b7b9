// The router: which experts, which weights, and what is counted.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/reference_ops.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace adamoe {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::FloatEq;
using testing::FloatNear;
using testing::IsEmpty;

class RouteTest : public testing::TestWithParam<Isa> {
 protected:
  Routing Route(const std::vector<float>& logits, const RouterParams& params) {
    const int32_t width = params.num_experts + params.num_null_experts;
    Routing routing;
    ops_->Route(logits.data(), static_cast<int32_t>(logits.size()) / width, params, &routing);
    return routing;
  }

  TestOps ops_{{GetParam(), Precision::kFloat32}};
};

TEST_P(RouteTest, PicksTheLargestAndRenormalises) {
  const Routing routing = Route({std::log(1.0f), std::log(4.0f), std::log(3.0f), std::log(2.0f)},
                                {.num_experts = 4, .experts_per_token = 2});
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 0, 1, 2, 2));
  EXPECT_THAT(routing.row_token, ElementsAre(0, 0));
  EXPECT_THAT(routing.row_weight,
              ElementsAre(FloatNear(4.0f / 7, 1e-6f), FloatNear(3.0f / 7, 1e-6f)));
  EXPECT_THAT(routing.null_slots, ElementsAre(0));
  EXPECT_THAT(routing.dropped, ElementsAre(0));
}

TEST_P(RouteTest, NullPicksAreCountedAndWeighNothing) {
  // True experts 0 and 1, null experts 2 and 3.
  const Routing routing =
      Route({1, 0, 3, 2}, {.num_experts = 2, .num_null_experts = 2, .experts_per_token = 3});
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 1, 1));
  EXPECT_THAT(routing.row_weight, ElementsAre(FloatEq(1.0f)));
  EXPECT_THAT(routing.null_slots, ElementsAre(2));
}

TEST_P(RouteTest, ATokenMayPickNoTrueExpert) {
  const Routing routing =
      Route({0, 0, 5, 5}, {.num_experts = 2, .num_null_experts = 2, .experts_per_token = 2});
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 0, 0));
  EXPECT_THAT(routing.row_token, IsEmpty());
  EXPECT_THAT(routing.null_slots, ElementsAre(2));
}

TEST_P(RouteTest, TiesGoToTheLowestIndex) {
  const Routing routing =
      Route({1, 1, 1, 1, 1, 1}, {.num_experts = 4, .num_null_experts = 2, .experts_per_token = 3});
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 1, 2, 3, 3));
  EXPECT_THAT(routing.row_weight, Each(FloatNear(1.0f / 3, 1e-6f)));
}

TEST_P(RouteTest, RowsOfAnExpertAscendByToken) {
  const Routing routing =
      Route({2, 1, 0, /**/ 0, 2, 1, /**/ 1, 0, 2}, {.num_experts = 3, .experts_per_token = 2});
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(routing.row_token, ElementsAre(0, 2, 0, 1, 1, 2));
}

TEST_P(RouteTest, NullBiasMovesTheNullLogitsOfItsTokenOnly) {
  const std::vector<float> bias = {0.0f, 2.0f, -2.0f};
  const std::vector<float> logits = {1, 0, 0.5f, /**/ 1, 0, 0.5f, /**/ 1, 0, 0.5f};
  const Routing routing = Route(
      logits,
      {.num_experts = 2, .num_null_experts = 1, .experts_per_token = 1, .null_bias = bias.data()});
  EXPECT_THAT(routing.null_slots, ElementsAre(0, 1, 0));
  EXPECT_THAT(routing.row_token, ElementsAre(0, 2));
}

TEST_P(RouteTest, MaxExpertsDropsTheLeastProbable) {
  const std::vector<uint32_t> limits = {0, 1, 2, 9};
  std::vector<float> logits;
  for (int t = 0; t < 4; ++t) logits.insert(logits.end(), {1.0f, 3.0f, 2.0f, 2.5f});
  const Routing routing = Route(logits, {.num_experts = 3,
                                         .num_null_experts = 1,
                                         .experts_per_token = 4,
                                         .max_experts = limits.data()});
  EXPECT_THAT(routing.dropped, ElementsAre(0, 2, 1, 0));
  EXPECT_THAT(routing.null_slots, Each(1));
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 2, 6, 9));
  // Token 1 keeps expert 1 alone.
  EXPECT_EQ(routing.row_token[3], 1);
  EXPECT_FLOAT_EQ(routing.row_weight[3], 1.0f);
}

TEST_P(RouteTest, WeightsSurviveUnderflow) {
  const Routing routing =
      Route({-300, -301, 0, -1}, {.num_experts = 2, .num_null_experts = 2, .experts_per_token = 4});
  EXPECT_THAT(routing.row_weight,
              ElementsAre(FloatNear(0.7310586f, 1e-5f), FloatNear(0.2689414f, 1e-5f)));
}

TEST_P(RouteTest, StrangeLogitsStayInRange) {
  const float inf = INFINITY;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits = {nan, nan,       nan,    nan,  /**/ inf, inf,      1,
                                     2,   /**/ -inf, -inf,   -inf, -inf,     /**/ nan, 1,
                                     inf, -inf,      /**/ 1, nan,  2,        3};
  const Routing routing =
      Route(logits, {.num_experts = 3, .num_null_experts = 1, .experts_per_token = 3});
  ASSERT_EQ(routing.expert_begin.size(), 4u);
  EXPECT_EQ(routing.expert_begin[3], static_cast<int32_t>(routing.row_token.size()));
  for (int32_t token : routing.row_token) EXPECT_TRUE(token >= 0 && token < 5);
  std::vector<int> slots(5, 0);
  for (int32_t token : routing.row_token) ++slots[token];
  for (int t = 0; t < 5; ++t) EXPECT_EQ(slots[t] + routing.null_slots[t], 3) << t;
}

TEST_P(RouteTest, AgreesWithTheReference) {
  struct Shape {
    int32_t n, m, k;
  };
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const Shape& s :
       {Shape{1, 0, 1}, {8, 0, 2}, {8, 8, 3}, {8, 16, 4}, {5, 3, 8}, {1, 30, 7}, {769, 255, 255}}) {
    const int32_t tokens = 33;
    std::vector<float> logits(tokens * (s.n + s.m)), bias(tokens);
    std::vector<uint32_t> limits(tokens);
    for (float& logit : logits) logit = std::round(4 * normal(random)) / 4;  // many ties
    for (float& b : bias) b = normal(random);
    for (uint32_t& limit : limits) limit = random() % 4;
    const RouterParams params{s.n, s.m, s.k, bias.data(), limits.data()};
    const Routing actual = Route(logits, params);
    Routing expected;
    ReferenceOps().Route(logits.data(), tokens, params, &expected);
    SCOPED_TRACE(testing::Message() << "n " << s.n << " m " << s.m << " k " << s.k);
    EXPECT_EQ(actual.expert_begin, expected.expert_begin);
    EXPECT_EQ(actual.row_token, expected.row_token);
    EXPECT_EQ(actual.null_slots, expected.null_slots);
    EXPECT_EQ(actual.dropped, expected.dropped);
    EXPECT_LE(LargestError(actual.row_weight, expected.row_weight), 1e-6);
  }
}

TEST_P(RouteTest, OfNoTokensIsEmptyWhateverWasThereBefore) {
  Routing routing{{1, 2}, {3}, {4.0f}, {5}, {6}};
  ops_->Route(nullptr, 0, {.num_experts = 2, .num_null_experts = 1, .experts_per_token = 2},
              &routing);
  EXPECT_THAT(routing.expert_begin, ElementsAre(0, 0, 0));
  EXPECT_THAT(routing.row_token, IsEmpty());
  EXPECT_THAT(routing.row_weight, IsEmpty());
  EXPECT_THAT(routing.null_slots, IsEmpty());
  EXPECT_THAT(routing.dropped, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Cpu, RouteTest, testing::ValuesIn(SupportedIsas()),
                         [](const auto& info) { return Name(info.param); });

}  // namespace
}  // namespace adamoe
