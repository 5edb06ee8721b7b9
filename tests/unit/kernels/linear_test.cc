// y = x W^T against plain loops, over shapes, types, precisions and instruction sets.
#include <cmath>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/kernels/cpu/kernel_table.h"
#include "tests/fakes/reference_ops.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace adamoe {
namespace {

constexpr DType kDTypes[] = {DType::kBFloat16, DType::kFloat16, DType::kFloat32, DType::kInt8,
                             DType::kInt4};

class LinearTest : public DeviceTest {
 protected:
  static std::vector<float> Run(Ops* ops, const Matrix& w, const float* x, int32_t num_tokens) {
    GuardedTensor y = GuardedTensor::Poisoned(num_tokens * w.rows);
    ops->Linear(w, x, num_tokens, y.floats());
    return y.ToVector();
  }

  // Compares one shape with the reference.
  void Check(DType dtype, int64_t rows, int64_t cols, int32_t num_tokens) {
    SCOPED_TRACE(testing::Message() << Name(dtype) << " [" << rows << ", " << cols << "] x "
                                    << num_tokens << " tokens");
    const GuardedMatrix w = GuardedMatrix::Random(rows, cols, dtype, 1);
    const GuardedTensor x = GuardedTensor::Random(num_tokens * cols, DType::kFloat32, 2);
    const Matrix& matrix = *w;
    ReferenceOps reference(GetParam().precision);
    const std::vector<float> expected = Run(&reference, matrix, x.floats(), num_tokens);
    const std::vector<float> actual = Run(ops_.operator->(), matrix, x.floats(), num_tokens);
    // The inputs of packed weights are 16-bit integers, off by 1 / 65534 of the largest at most.
    const double rounding = IsPacked(dtype) ? 2e-5 : 2e-6;
    EXPECT_LE(LargestError(actual, expected), rounding * std::sqrt(cols) + rounding / 2);
  }

  TestOps ops_{GetParam()};
};

TEST_P(LinearTest, AgreesOnEveryNumberOfTokens) {
  for (DType dtype : kDTypes) {
    for (int32_t tokens = 0; tokens <= 33; ++tokens) Check(dtype, 21, 72, tokens);
  }
}

TEST_P(LinearTest, AgreesOnOddRowsAndColumns) {
  for (DType dtype : kDTypes) {
    for (int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 31}) {
      for (int64_t cols : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65}) {
        for (int32_t tokens : {1, 2, 5, 14}) Check(dtype, rows, cols, tokens);
      }
    }
  }
}

// More columns than a slice has, and more tokens than are taken at a time.
TEST_P(LinearTest, AgreesOnWideRowsWithManyTokens) {
  for (DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    for (int32_t tokens : {7, 13, 31, 130, 260}) Check(dtype, 37, 2 * kSliceCols + 76, tokens);
  }
}

TEST_P(LinearTest, AgreesWhereWorkIsSharedByThreads) {
  for (DType dtype : kDTypes) {
    Check(dtype, 1031, 515, 1);
    Check(dtype, 519, 1027, 19);
    Check(dtype, 6, 333, 300);
    Check(dtype, 70, 257, 270);
  }
}

TEST_P(LinearTest, OfNoRowsWritesNothing) {
  const GuardedTensor x = GuardedTensor::Random(3 * 8, DType::kFloat32, 2);
  float untouched = 7.0f;
  ops_->Linear({nullptr, DType::kBFloat16, 0, 8}, x.floats(), 3, &untouched);
  EXPECT_EQ(untouched, 7.0f);
}

TEST_P(LinearTest, Float32IgnoresThePrecision) {
  const GuardedTensor w = GuardedTensor::Random(24 * 99, DType::kBFloat16, 1);
  const GuardedTensor x = GuardedTensor::Random(5 * 99, DType::kFloat32, 2);
  const Matrix matrix = w.AsMatrix(24, 99);
  std::vector<float> y(5 * 24);
  ops_->LinearFloat32(matrix, x.floats(), 5, y.data());
  TestOps float32({GetParam().isa, Precision::kFloat32});
  EXPECT_EQ(y, Run(float32.operator->(), matrix, x.floats(), 5));
}

// What is promised for float32; most kernels give it in bfloat16 too.
TEST_P(LinearTest, IsTheSameAloneAndInABatchOnAnyNumberOfThreads) {
  for (DType dtype : kDTypes) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{45, 205}, {530, 520}}) {
      const GuardedMatrix w = GuardedMatrix::Random(rows, cols, dtype, 1);
      const GuardedTensor x = GuardedTensor::Random(70 * cols, DType::kFloat32, 2);
      const Matrix& matrix = *w;
      const std::vector<float> batch = Run(ops_.operator->(), matrix, x.floats(), 70);
      for (int threads : {1, 3}) {
        TestOps ops(GetParam(), threads);
        for (int32_t tokens : {1, 2, 7, 13, 70}) {
          const int32_t first = 70 - tokens;
          const std::vector<float> part =
              Run(ops.operator->(), matrix, x.floats() + first * cols, tokens);
          const std::vector<float> expected(batch.begin() + first * rows, batch.end());
          if (IgnoresBatch(GetParam())) {
            EXPECT_EQ(part, expected) << tokens << " tokens on " << threads << " threads";
          } else {
            EXPECT_LE(LargestError(part, expected), 1e-4) << tokens << " tokens";
          }
        }
      }
    }
  }
}

TEST_P(LinearTest, ReadsNoScratchItHasNotWritten) {
  TestOps ops(GetParam(), 1);
  for (DType dtype : kDTypes) {
    const GuardedMatrix w = GuardedMatrix::Random(21, 45, dtype, 1);
    const GuardedTensor x = GuardedTensor::Random(20 * 45, DType::kFloat32, 2);
    const Matrix& matrix = *w;
    const std::vector<float> expected = Run(ops_.operator->(), matrix, x.floats(), 20);
    PoisonScratch();
    EXPECT_EQ(Run(ops.operator->(), matrix, x.floats(), 20), expected) << Name(dtype);
  }
}

// As with weights of other types, nothing of it reaches other tokens.
TEST_P(LinearTest, AnInputThatIsNotFiniteSpoilsItsTokenOnly) {
  for (DType dtype : kDTypes) {
    for (float value : {std::nanf(""), -std::nanf(""), HUGE_VALF}) {
      const GuardedMatrix w = GuardedMatrix::Random(20, 70, dtype, 1);
      GuardedTensor x = GuardedTensor::Random(3 * 70, DType::kFloat32, 2);
      x.floats()[70 + 66] = value;
      const std::vector<float> y = Run(ops_.operator->(), *w, x.floats(), 3);
      for (size_t i = 0; i < y.size(); ++i) {
        EXPECT_EQ(std::isfinite(y[i]), i / 20 != 1) << Name(dtype) << " " << i;
      }
    }
  }
}

TEST_P(LinearTest, RoundsInputsOnlyInBfloat16) {
  const float x = 1.0f + 0x1p-10f;
  const float one = 1.0f;
  const std::vector<float> y = Run(ops_.operator->(), {&one, DType::kFloat32, 1, 1}, &x, 1);
  EXPECT_EQ(y[0], GetParam().precision == Precision::kFloat32 ? x : 1.0f);
}

ADAMOE_ON_ALL_DEVICES(LinearTest);

}  // namespace
}  // namespace adamoe
