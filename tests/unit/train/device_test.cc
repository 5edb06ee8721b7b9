#include "train/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/train/tiny_model.h"

namespace adamoe {
namespace {

TEST(DeviceTest, NamesWhatItIsAsked) {
  ASSERT_TRUE(DeviceNamed("cpu").ok());
  EXPECT_TRUE(DeviceNamed("cpu")->is_cpu());
  const auto unknown = DeviceNamed("tpu");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.status().message()),
              testing::HasSubstr("\"tpu\": expected auto, cpu or cuda"));
}

TEST(DeviceTest, AutoIsCudaExactlyWhereCudaWorks) {
  const auto cuda = DeviceNamed("cuda");
  const auto chosen = DeviceNamed("auto");
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->is_cuda(), cuda.ok());
  if (!cuda.ok()) {
    EXPECT_EQ(cuda.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(cuda.status().message()), testing::StartsWith("device cuda: "));
  }
}

TEST(DeviceTest, MovingToTheSameDeviceKeepsTheTensors) {
  MixtralParameters parameters = RandomParameters(TinyConfig(), 1);
  const at::Tensor before = parameters.layers[0].w2;
  MoveTo(at::kCPU, &parameters);
  EXPECT_TRUE(parameters.layers[0].w2.is_same(before));
}

}  // namespace
}  // namespace adamoe
