#include "client/cli/expert_scale.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace adamoe {
namespace {

TEST(UseColorTest, AutoMeansATerminalThatWantsThem) {
  EXPECT_TRUE(UseColor("auto", true, nullptr, "xterm"));
  EXPECT_TRUE(UseColor("auto", true, "", nullptr));
  EXPECT_FALSE(UseColor("auto", false, nullptr, "xterm"));
  EXPECT_FALSE(UseColor("auto", true, "1", "xterm"));
  EXPECT_FALSE(UseColor("auto", true, nullptr, "dumb"));
}

TEST(UseColorTest, AnExplicitChoiceWins) {
  EXPECT_TRUE(UseColor("always", false, "1", "dumb"));
  EXPECT_FALSE(UseColor("never", true, nullptr, "xterm"));
}

TEST(ExpertScaleTest, EndsDifferAndValuesBeyondTakeThem) {
  const ExpertScale scale(3);
  EXPECT_NE(scale.ColorOf(0), scale.ColorOf(3));
  EXPECT_EQ(scale.ColorOf(-1), scale.ColorOf(0));
  EXPECT_EQ(scale.ColorOf(100), scale.ColorOf(3));
  EXPECT_EQ(scale.ColorOf(1.5), ExpertScale(6).ColorOf(3));
}

TEST(ExpertScaleTest, EachStepIsItsOwnColour) {
  std::set<int> colors;
  const ExpertScale scale(12);
  for (int experts = 0; experts <= 12; ++experts) colors.insert(scale.ColorOf(experts));
  EXPECT_EQ(colors.size(), 13u);
  for (int color : colors) EXPECT_TRUE(color >= 16 && color <= 255) << color;
}

TEST(ExpertScaleTest, AModelWithoutExpertsHasOneColour) {
  const ExpertScale scale(0);
  EXPECT_EQ(scale.ColorOf(0), scale.ColorOf(5));
}

TEST(ExpertScaleTest, PaintsAndResets) {
  const ExpertScale scale(2);
  EXPECT_EQ(scale.Paint("x", 2), "\x1b[38;5;" + std::to_string(scale.ColorOf(2)) + "mx\x1b[0m");
  EXPECT_THAT(scale.Legend(), testing::HasSubstr("experts per token and layer: 0 "));
  EXPECT_THAT(scale.Legend(), testing::EndsWith(" 2"));
}

}  // namespace
}  // namespace adamoe
