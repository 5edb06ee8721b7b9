#include "server/base/dtype.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gtest/gtest.h"

namespace adamoe {
namespace {

TEST(DTypeTest, SizesAndNames) {
  EXPECT_EQ(SizeOf(DType::kBFloat16), 2u);
  EXPECT_EQ(SizeOf(DType::kFloat16), 2u);
  EXPECT_EQ(SizeOf(DType::kFloat32), 4u);
  EXPECT_STREQ(Name(DType::kBFloat16), "bfloat16");
  EXPECT_STREQ(Name(DType::kFloat16), "float16");
  EXPECT_STREQ(Name(DType::kFloat32), "float32");
}

TEST(DTypeTest, EveryBfloat16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = FloatFromBf16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(value)))) << bits;
    } else {
      EXPECT_EQ(Bf16FromFloat(value), bits);
    }
  }
}

TEST(DTypeTest, Bfloat16RoundsToNearestTiesToEven) {
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(1.0f + 0x3p-8f)), 1.0f + 0x1p-6f);
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(1.0f + 0x1p-8f + 0x1p-20f)), 1.0f + 0x1p-7f);
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(-1.0f - 0x3p-8f)), -1.0f - 0x1p-6f);
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(std::numeric_limits<float>::max())), INFINITY);
  EXPECT_EQ(FloatFromBf16(Bf16FromFloat(-INFINITY)), -INFINITY);
}

// A NaN whose set bits are all in the half that is cut off.
TEST(DTypeTest, Bfloat16KeepsNaN) {
  const uint32_t bits = 0x7f800001u;
  float nan;
  std::memcpy(&nan, &bits, sizeof(nan));
  EXPECT_TRUE(std::isnan(FloatFromBf16(Bf16FromFloat(nan))));
}

TEST(DTypeTest, EveryHalfHasItsValue) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float sign = (bits & 0x8000u) ? -1.0f : 1.0f;
    const int exponent = static_cast<int>(bits >> 10) & 0x1f;
    const float mantissa = static_cast<float>(bits & 0x3ffu);
    const float value = FloatFromF16(static_cast<uint16_t>(bits));
    if (exponent == 31 && mantissa != 0.0f) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else if (exponent == 31) {
      EXPECT_EQ(value, sign * INFINITY);
    } else if (exponent == 0) {
      EXPECT_EQ(value, sign * std::ldexp(mantissa, -24)) << bits;
    } else {
      EXPECT_EQ(value, sign * std::ldexp(1024.0f + mantissa, exponent - 25)) << bits;
    }
  }
}

}  // namespace
}  // namespace adamoe
