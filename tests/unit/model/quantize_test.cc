// A model with its weights in 8 or 4 bits answers nearly as before, and alike however its tokens
// are portioned.
#include "server/model/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "tests/unit/model/golden.h"
#include "tests/unit/model/model_runner.h"
#include "tests/unit/model/ops_under_test.h"

namespace adamoe {
namespace {

const std::vector<int32_t> kTokens = {1, 17, 42, 5, 77, 23, 8, 61, 30, 2, 55, 71, 9, 44};

class QuantizeTest : public testing::TestWithParam<OpsUnderTest> {
 protected:
  static std::unique_ptr<MixtralModel> Load(const std::string& name, DType dtype) {
    MixtralWeights weights = LoadGoldenWeights(name);
    ThreadPool pool(2);
    Quantize(dtype, pool, weights);
    EXPECT_EQ(weights.layers[0].experts[0].w1.dtype, dtype);
    EXPECT_EQ(weights.layers[0].q_proj.dtype, dtype);
    EXPECT_EQ(weights.lm_head.dtype, DType::kInt8);
    auto model = MixtralModel::Create(std::move(weights), GetParam().make(),
                                      {.kv_cache_tokens = 512, .block_size = 4});
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

  // Root of the mean squared difference of the first position's logits, over their spread.
  static double FirstError(const PositionAnswer& actual, const PositionAnswer& expected) {
    double error = 0;
    double spread = 0;
    for (size_t i = 0; i < expected.logits.size(); ++i) {
      error += std::pow(actual.logits[i] - expected.logits[i], 2);
      spread += std::pow(expected.logits[i], 2);
    }
    return std::sqrt(error / spread);
  }
};

TEST_P(QuantizeTest, AnswersNearlyAsBefore) {
  for (const std::string& name : GoldenNames()) {
    const auto plain = LoadGoldenModel(name, GetParam().make());
    const PositionAnswer expected = RunAlone(plain.get(), kTokens, {})[0];
    const auto int8 = Load(name, DType::kInt8);
    const double int8_error = FirstError(RunAlone(int8.get(), kTokens, {})[0], expected);
    const auto int4 = Load(name, DType::kInt4);
    const double int4_error = FirstError(RunAlone(int4.get(), kTokens, {})[0], expected);
    EXPECT_GT(int8_error, 0.0) << name;
    EXPECT_LT(int8_error, 0.03) << name;
    EXPECT_GT(int4_error, int8_error) << name;
    EXPECT_LT(int4_error, 0.8) << name;  // routing changes too; 1.4 for unrelated answers
  }
}

TEST_P(QuantizeTest, ChunkedPrefillEqualsWholePrefill) {
  const std::string name = GoldenNames().front();
  for (DType dtype : {DType::kInt8, DType::kInt4}) {
    const auto model = Load(name, dtype);
    const std::vector<PositionAnswer> whole = RunAlone(model.get(), kTokens, {});
    const std::vector<int32_t> prompt(kTokens.begin(), kTokens.begin() + 5);
    const std::vector<int32_t> rest(kTokens.begin() + 5, kTokens.end());
    EXPECT_EQ(RunAlone(model.get(), prompt, rest), whole) << Name(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, QuantizeTest, testing::ValuesIn(OpsOf(Precision::kFloat32)),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace adamoe
