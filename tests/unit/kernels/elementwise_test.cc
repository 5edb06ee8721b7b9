// The operations that touch each number once: embedding, norm, addition, rotation, and the writing
// of the cache.
#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/reference_ops.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace adamoe {
namespace {

using testing::Each;
using testing::Eq;

class ElementwiseTest : public DeviceTest {
 protected:
  TestOps ops_{GetParam()};
  ReferenceOps reference_;
};

TEST_P(ElementwiseTest, EmbedWidensExactly) {
  const std::vector<int32_t> ids = {4, 0, 6, 6, 1};
  for (DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    for (int64_t hidden : {1, 7, 16, 33, 64}) {
      const GuardedTensor table = GuardedTensor::Random(7 * hidden, dtype, 3);
      GuardedTensor out = GuardedTensor::Poisoned(5 * hidden);
      std::vector<float> expected(5 * hidden);
      ops_->Embed(table.AsMatrix(7, hidden), ids.data(), 5, out.floats());
      reference_.Embed(table.AsMatrix(7, hidden), ids.data(), 5, expected.data());
      EXPECT_EQ(out.ToVector(), expected) << Name(dtype) << " " << hidden;
    }
  }
}

// Subnormals, infinities and both zeros too.
TEST_P(ElementwiseTest, EmbedKnowsEveryHalf) {
  std::vector<uint16_t> bits;
  for (uint32_t b = 0; b <= 0xffff; ++b) {
    if ((b & 0x7fffu) <= 0x7c00u) bits.push_back(static_cast<uint16_t>(b));
  }
  const int32_t size = static_cast<int32_t>(bits.size());
  std::vector<float> out(size), expected(size);
  const int32_t id = 0;
  ops_->Embed({bits.data(), DType::kFloat16, 1, size}, &id, 1, out.data());
  reference_.Embed({bits.data(), DType::kFloat16, 1, size}, &id, 1, expected.data());
  EXPECT_EQ(out, expected);
}

TEST_P(ElementwiseTest, EmbedOfManyTokensIsSharedByThreads) {
  const GuardedTensor table = GuardedTensor::Random(50 * 512, DType::kBFloat16, 3);
  std::vector<int32_t> ids(700);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 50);
  std::vector<float> out(ids.size() * 512), expected(out.size());
  ops_->Embed(table.AsMatrix(50, 512), ids.data(), 700, out.data());
  reference_.Embed(table.AsMatrix(50, 512), ids.data(), 700, expected.data());
  EXPECT_EQ(out, expected);
}

TEST_P(ElementwiseTest, RmsNormAgreesAndWorksInPlace) {
  for (int32_t hidden : {1, 5, 16, 31, 64, 100, 1024}) {
    const GuardedTensor x = GuardedTensor::Random(9 * hidden, DType::kFloat32, 4);
    const GuardedTensor weight = GuardedTensor::Random(hidden, DType::kFloat32, 5);
    std::vector<float> out(9 * hidden), expected(9 * hidden);
    ops_->RmsNorm(x.floats(), weight.floats(), 1e-5f, 9, hidden, out.data());
    reference_.RmsNorm(x.floats(), weight.floats(), 1e-5f, 9, hidden, expected.data());
    EXPECT_LE(LargestError(out, expected), 1e-6) << hidden;
    ops_->RmsNorm(x.floats(), weight.floats(), 1e-5f, 9, hidden, x.floats());
    EXPECT_EQ(x.ToVector(), out) << hidden;
  }
}

TEST_P(ElementwiseTest, RmsNormIsTheSameAloneAndInABatch) {
  const GuardedTensor x = GuardedTensor::Random(300 * 515, DType::kFloat32, 4);
  const GuardedTensor weight = GuardedTensor::Random(515, DType::kFloat32, 5);
  std::vector<float> batch(300 * 515), alone(515);
  ops_->RmsNorm(x.floats(), weight.floats(), 1e-5f, 300, 515, batch.data());
  ops_->RmsNorm(x.floats() + 299 * 515, weight.floats(), 1e-5f, 1, 515, alone.data());
  EXPECT_EQ(alone, std::vector<float>(batch.end() - 515, batch.end()));
}

TEST_P(ElementwiseTest, RmsNormOfZerosIsZero) {
  const std::vector<float> x(40, 0.0f), weight(40, 2.0f);
  std::vector<float> out(40, 9.0f);
  ops_->RmsNorm(x.data(), weight.data(), 1e-6f, 1, 40, out.data());
  EXPECT_THAT(out, Each(Eq(0.0f)));
}

TEST_P(ElementwiseTest, AddIsExact) {
  for (int64_t n : {0, 1, 15, 16, 17, 1000, 200001}) {
    const GuardedTensor x = GuardedTensor::Random(n, DType::kFloat32, 6);
    GuardedTensor y = GuardedTensor::Random(n, DType::kFloat32, 7);
    std::vector<float> expected = y.ToVector();
    reference_.Add(x.floats(), n, expected.data());
    ops_->Add(x.floats(), n, y.floats());
    EXPECT_EQ(y.ToVector(), expected) << n;
  }
}

TEST_P(ElementwiseTest, RopeAgreesUpToAMillionPositions) {
  const std::vector<int32_t> positions = {0, 1, 2, 77, 4095, 131071, 999999, 1000000};
  for (int32_t head_dim : {2, 6, 32, 128}) {
    for (float theta : {10000.0f, 1e6f}) {
      GuardedTensor x = GuardedTensor::Random(8 * 3 * head_dim, DType::kFloat32, 8);
      std::vector<float> expected = x.ToVector();
      ops_->Rope(positions.data(), theta, 8, 3, head_dim, x.floats());
      reference_.Rope(positions.data(), theta, 8, 3, head_dim, expected.data());
      EXPECT_LE(LargestError(x.ToVector(), expected), 5e-7) << head_dim << " " << theta;
    }
  }
}

// Angles are kept between calls: other positions, sizes and bases must not be served from them.
TEST_P(ElementwiseTest, RopeFollowsItsArguments) {
  struct Call {
    std::vector<int32_t> positions;
    float theta;
    int32_t head_dim;
  };
  const std::vector<Call> calls = {{{5}, 1e4f, 8},    {{5}, 1e4f, 8}, {{6}, 1e4f, 8},
                                   {{6}, 1e6f, 8},    {{6}, 1e6f, 4}, {{6, 7}, 1e6f, 4},
                                   {{7, 6}, 1e6f, 4}, {{7}, 1e6f, 4}};
  for (const Call& call : calls) {
    const int32_t tokens = static_cast<int32_t>(call.positions.size());
    std::vector<float> x(tokens * call.head_dim, 0.5f);
    std::vector<float> expected = x;
    ops_->Rope(call.positions.data(), call.theta, tokens, 1, call.head_dim, x.data());
    reference_.Rope(call.positions.data(), call.theta, tokens, 1, call.head_dim, expected.data());
    EXPECT_LE(LargestError(x, expected), 1e-6);
  }
}

TEST_P(ElementwiseTest, AppendKvWritesItsSlotsAndNoOthers) {
  const std::vector<int32_t> slots = {5, 0, 11};
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const int64_t width = 3 * 10;
    const GuardedTensor keys = GuardedTensor::Random(3 * width, DType::kFloat32, 9);
    const GuardedTensor values = GuardedTensor::Random(3 * width, DType::kFloat32, 10);
    GuardedTensor cache_k = GuardedTensor::Random(12 * width, dtype, 11);
    GuardedTensor cache_v = GuardedTensor::Random(12 * width, dtype, 12);
    GuardedTensor expected_k = GuardedTensor::Random(12 * width, dtype, 11);
    GuardedTensor expected_v = GuardedTensor::Random(12 * width, dtype, 12);
    ops_->AppendKv(keys.floats(), values.floats(), slots.data(), 3,
                   {cache_k.data(), cache_v.data(), dtype, 4, 3, 10});
    reference_.AppendKv(keys.floats(), values.floats(), slots.data(), 3,
                        {expected_k.data(), expected_v.data(), dtype, 4, 3, 10});
    EXPECT_EQ(cache_k.ToVector(), expected_k.ToVector()) << Name(dtype);
    EXPECT_EQ(cache_v.ToVector(), expected_v.ToVector()) << Name(dtype);
  }
}

TEST_P(ElementwiseTest, AppendKvRoundsAsBfloat16Does) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {1.0f + 0x1p-8f, 1.0f + 0x3p-8f, -3e38f, INFINITY, nan,
                                -0.0f,          1e-40f,         1.0f};
  std::vector<uint16_t> keys(8), values(8);
  const int32_t slot = 0;
  ops_->AppendKv(x.data(), x.data(), &slot, 1,
                 {keys.data(), values.data(), DType::kBFloat16, 1, 1, 8});
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(keys[i], Bf16FromFloat(x[i])) << x[i];
  EXPECT_EQ(keys, values);
}

TEST_P(ElementwiseTest, OfNoTokensDoesNothing) {
  ops_->Embed({nullptr, DType::kFloat32, 4, 4}, nullptr, 0, nullptr);
  ops_->RmsNorm(nullptr, nullptr, 1e-5f, 0, 4, nullptr);
  ops_->Rope(nullptr, 1e4f, 0, 2, 4, nullptr);
  ops_->AppendKv(nullptr, nullptr, nullptr, 0, {nullptr, nullptr, DType::kFloat32, 4, 1, 4});
}

ADAMOE_ON_ALL_DEVICES(ElementwiseTest);

}  // namespace
}  // namespace adamoe
