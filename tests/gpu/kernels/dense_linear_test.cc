// Dense products by cuBLASLt against the reference; needs a GPU.
#include <cuda_runtime_api.h>

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/kernels/cuda/dense_linear.h"
#include "tests/fakes/reference_ops.h"
#include "tests/gpu/kernels/check_values.h"
#include "tests/gpu/kernels/device_memory.h"
#include "tests/gpu/kernels/kernel_checks.h"

namespace adamoe {
namespace {

using cuda::DenseLinear;

void CheckShape(DenseLinear* linear, int32_t rows, int32_t inputs, int32_t outputs) {
  const std::string what = "[" + std::to_string(rows) + ", " + std::to_string(inputs) + "] x [" +
                           std::to_string(outputs) + ", " + std::to_string(inputs) + "]^T";
  const auto x = RandomBf16(int64_t{rows} * inputs, 1);
  const auto w =
      RandomBf16(int64_t{outputs} * inputs, 2, 1.0f / std::sqrt(static_cast<float>(inputs)));
  const auto before = RandomFloats(int64_t{rows} * outputs, 3);
  std::vector<float> expected(before.size());
  ReferenceOps().Linear({w.data(), DType::kBFloat16, outputs, inputs}, ToFloat(x).data(), rows,
                        expected.data());
  const DeviceArray<uint16_t> device_x(x), device_w(w), rounded(int64_t{rows} * outputs);
  const DeviceArray<float> y(int64_t{rows} * outputs), sum(before);
  const auto run = [&](void* to, DenseLinear::Output output) {
    const absl::Status status =
        linear->Run({device_x.get(), device_w.get(), to, rows, inputs, outputs, output}, nullptr);
    EXPECT_TRUE(status.ok()) << status;
  };
  run(y.get(), DenseLinear::Output::kFloat32);
  run(rounded.get(), DenseLinear::Output::kBf16);
  run(sum.get(), DenseLinear::Output::kFloat32Add);
  ExpectNear(y.ToHost(), expected, 1e-3, what);
  ExpectNear(ToFloat(rounded.ToHost()), expected, 0.02, what + ", rounded");
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
  ExpectNear(sum.ToHost(), expected, 1e-3, what + ", added");
}

void CheckShapes() {
  const DeviceArray<uint8_t> workspace(DenseLinear::kWorkspaceBytes);
  auto linear = DenseLinear::Create(workspace.get());
  ASSERT_TRUE(linear.ok()) << linear.status();
  for (int32_t rows : {1, 7, 64, 300}) {
    CheckShape(linear->get(), rows, 32, 64);
    CheckShape(linear->get(), rows, 72, 304);
    CheckShape(linear->get(), rows, 256, 300);
    CheckShape(linear->get(), rows, 1024, 257);
  }
  CheckShape(linear->get(), 7, 256, 300);  // a shape seen before
  EXPECT_TRUE((*linear)->Run({.num_rows = 0}, nullptr).ok());
}

TEST(DenseLinearTest, AgreesWithTheReference) {
  int num_devices = 0;
  if (cudaGetDeviceCount(&num_devices) != cudaSuccess || num_devices == 0) GTEST_SKIP() << "no GPU";
  EXPECT_THAT(RunKernelCheck({"dense_linear", CheckShapes}), testing::IsEmpty());
}

}  // namespace
}  // namespace adamoe
