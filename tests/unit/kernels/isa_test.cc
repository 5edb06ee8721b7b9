#include "server/kernels/cpu/isa.h"

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace adamoe {
namespace {

TEST(IsaTest, TheScalarKernelsRunEverywhere) { EXPECT_TRUE(IsaSupported(Isa::kScalar)); }

TEST(IsaTest, EachIncludesTheOnesBeforeIt) {
  for (Isa isa : kAllIsas) EXPECT_EQ(IsaSupported(isa), isa <= BestIsa()) << Name(isa);
}

TEST(IsaTest, ParsesTheNamesOfSupportedOnes) {
  for (Isa isa : kAllIsas) {
    const absl::StatusOr<Isa> parsed = ParseIsa(Name(isa));
    if (IsaSupported(isa)) {
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      EXPECT_EQ(*parsed, isa);
    } else {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
    }
  }
}

TEST(IsaTest, RefusesOtherNames) {
  for (const char* name : {"", "AVX2", "avx", "avx512 ", "neon"}) {
    const absl::Status status = ParseIsa(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_NE(status.message().find("want scalar"), absl::string_view::npos) << status;
  }
}

TEST(IsaTest, Bfloat16IsFastestOnlyWithItsOwnDotProduct) {
  EXPECT_EQ(FastestPrecision(Isa::kScalar), Precision::kFloat32);
  EXPECT_EQ(FastestPrecision(Isa::kAvx2), Precision::kFloat32);
  EXPECT_EQ(FastestPrecision(Isa::kAvx512), Precision::kFloat32);
  EXPECT_EQ(FastestPrecision(Isa::kAvx512Bf16), Precision::kBFloat16);
  EXPECT_EQ(FastestPrecision(Isa::kAmx), Precision::kBFloat16);
}

}  // namespace
}  // namespace adamoe
