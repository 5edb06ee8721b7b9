#include "tests/gpu/bench/measure.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/fakes/fake_model.h"

namespace adamoe {
namespace {

ModelDimensions Dimensions() {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = 4096;
  return dimensions;
}

TEST(MeasureTest, DecodeCountsStepsOfTheWholeBatch) {
  FakeModel model(Dimensions());
  model.set_before_step([](int, const ForwardBatch&) { absl::SleepFor(absl::Milliseconds(2)); });
  const auto speed = MeasureDecode(&model, 6, 40, 20);
  ASSERT_TRUE(speed.ok()) << speed.status();
  EXPECT_GE(speed->num_steps, 15);
  EXPECT_GE(speed->step_seconds, 0.002);
  EXPECT_DOUBLE_EQ(speed->tokens_per_second, 6 / speed->step_seconds);
  EXPECT_LT(speed->host_seconds, speed->step_seconds);
  EXPECT_GT(speed->load, 0.0);
  EXPECT_LE(speed->load, 3.0);
}

TEST(MeasureTest, PrefillRunsEachPromptInOneStep) {
  FakeModel model(Dimensions());
  model.set_before_step([](int, const ForwardBatch&) { absl::SleepFor(absl::Milliseconds(2)); });
  const auto speed = MeasurePrefill(&model, 700, 4);
  ASSERT_TRUE(speed.ok()) << speed.status();
  EXPECT_EQ(speed->num_steps, 4);
  EXPECT_EQ(model.num_steps(), 5);
  EXPECT_EQ(model.largest_step(), 700);
  EXPECT_LE(speed->tokens_per_second, 700 / 0.002);
}

TEST(MeasureTest, AFailingModelIsAnError) {
  FakeModel model(Dimensions());
  FakeModel::Faults faults;
  faults.fail_step = 3;
  model.set_faults(faults);
  EXPECT_FALSE(MeasureDecode(&model, 2, 10, 10).ok());
}

}  // namespace
}  // namespace adamoe
