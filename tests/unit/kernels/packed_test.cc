// Weights in 8 and 4 bits: what packing keeps of them.
#include "server/kernels/packed.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace adamoe {
namespace {

// A packed copy of a matrix.
class Packed {
 public:
  Packed(const Matrix& w, DType dtype) {
    const PackedSize size = PackedSizeOf(dtype, w.rows, w.cols);
    data_.resize(size.num_blocks * size.bytes_per_block, 0xff);
    scales_.resize(size.num_blocks * size.scales_per_block, 0xffff);
    // Blocks in any order and number at a time.
    for (int64_t block = size.num_blocks; block > 0; --block)
      Pack(w, dtype, block - 1, block, data_.data(), scales_.data());
    matrix_ = {data_.data(), dtype, w.rows, w.cols, scales_.data()};
  }

  std::vector<float> Row(int64_t row) const {
    std::vector<float> values(matrix_.cols);
    UnpackRow(matrix_, row, values.data());
    return values;
  }
  const std::vector<uint16_t>& scales() const { return scales_; }

 private:
  std::vector<uint8_t> data_;
  std::vector<uint16_t> scales_;
  Matrix matrix_;
};

class PackedTest : public testing::TestWithParam<DType> {
 protected:
  bool int8() const { return GetParam() == DType::kInt8; }
  int64_t group() const { return int8() ? kInt8Group : kInt4Group; }
};

TEST_P(PackedTest, KeepsEveryValueWithinHalfAStep) {
  for (DType from : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    for (int64_t rows : {1, 15, 16, 17, 40}) {
      for (int64_t cols : {1, 31, 32, 64, 65, 200}) {
        const GuardedMatrix source = GuardedMatrix::Random(rows, cols, from, 3);
        const std::vector<float> expected = [&] {
          std::vector<float> values(rows * cols);
          for (int64_t i = 0; i < rows * cols; ++i) {
            const auto* bits = static_cast<const uint16_t*>((*source).data);
            values[i] = from == DType::kFloat32   ? static_cast<const float*>((*source).data)[i]
                        : from == DType::kFloat16 ? FloatFromF16(bits[i])
                                                  : FloatFromBf16(bits[i]);
          }
          return values;
        }();
        const Packed packed(*source, GetParam());
        for (int64_t r = 0; r < rows; ++r) {
          const std::vector<float> row = packed.Row(r);
          for (int64_t begin = 0; begin < cols; begin += group()) {
            const int64_t end = std::min(begin + group(), cols);
            float largest = 0;
            for (int64_t c = begin; c < end; ++c)
              largest = std::max(largest, std::abs(expected[r * cols + c]));
            // Half a step, and what rounding the scale or a cut at the end costs.
            const float allowed = largest * (int8() ? 0.5f / 127 + 0.004f : 0.145f);
            for (int64_t c = begin; c < end; ++c)
              ASSERT_NEAR(row[c], expected[r * cols + c], allowed) << r << ", " << c;
          }
        }
      }
    }
  }
}

TEST_P(PackedTest, KeepsMultiplesOfAScaleExactly) {
  std::vector<float> values(2 * 64);
  const int limit = int8() ? 127 : 8;
  for (int i = 0; i < 128; ++i) values[i] = 0.5f * static_cast<float>(i % (2 * limit) - limit);
  values[0] = values[32] = values[64] = values[96] = -0.5f * static_cast<float>(limit);
  const Packed packed({values.data(), DType::kFloat32, 2, 64}, GetParam());
  EXPECT_EQ(packed.Row(0), std::vector<float>(values.begin(), values.begin() + 64));
  EXPECT_EQ(packed.Row(1), std::vector<float>(values.begin() + 64, values.end()));
}

TEST_P(PackedTest, GroupsHaveScalesOfTheirOwn) {
  std::vector<float> values(128, 1e-3f);
  std::fill(values.begin(), values.begin() + group(), 1e3f);
  const std::vector<float> row =
      Packed({values.data(), DType::kFloat32, 1, 128}, GetParam()).Row(0);
  EXPECT_NEAR(row[0], 1e3f, 4.0f);
  EXPECT_NEAR(row[group()], 1e-3f, 4e-6f);
}

TEST_P(PackedTest, OfZerosAndVerySmallValuesIsZero) {
  for (float value : {0.0f, -0.0f, 1e-38f, std::numeric_limits<float>::denorm_min()}) {
    const std::vector<float> values(64, value);
    const Packed packed({values.data(), DType::kFloat32, 1, 64}, GetParam());
    EXPECT_THAT(packed.Row(0), testing::Each(0.0f));
  }
}

TEST_P(PackedTest, WhatIsNotFiniteMakesItsGroupNan) {
  for (float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(2 * 128, 0.5f);
    values[128 + 5] = value;
    const Packed packed({values.data(), DType::kFloat32, 2, 128}, GetParam());
    const std::vector<float> row = packed.Row(1);
    for (int64_t c = 0; c < 128; ++c) EXPECT_EQ(std::isnan(row[c]), c < group()) << c;
    EXPECT_THAT(packed.Row(0), testing::Each(testing::FloatNear(0.5f, 3e-3f)));
  }
}

TEST_P(PackedTest, VeryLargeValuesStayFinite) {
  const std::vector<float> values(64, 2e38f);
  const Packed packed({values.data(), DType::kFloat32, 1, 64}, GetParam());
  EXPECT_THAT(packed.Row(0), testing::Each(testing::FloatNear(2e38f, 1e36f)));
}

INSTANTIATE_TEST_SUITE_P(Types, PackedTest, testing::Values(DType::kInt8, DType::kInt4),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace adamoe
