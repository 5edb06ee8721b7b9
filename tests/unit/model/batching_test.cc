// In float32 a sequence's answers are its own, bit for bit: however its tokens are portioned,
// whoever shares the step, wherever its blocks lie and whatever the others' compute dials say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <tuple>

#include "tests/unit/model/golden.h"
#include "tests/unit/model/model_runner.h"
#include "tests/unit/model/ops_under_test.h"

namespace adamoe {
namespace {

constexpr int32_t kVocab = 80;  // no golden has fewer tokens

std::vector<int32_t> RandomTokens(int count, std::mt19937& random) {
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kVocab);
  return tokens;
}

using Param = std::tuple<std::string, OpsUnderTest>;

std::string NameOf(const testing::TestParamInfo<Param>& info) {
  return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
}

class BatchingTest : public testing::TestWithParam<Param> {
 protected:
  std::unique_ptr<MixtralModel> Load(int32_t block_size = 4) {
    return LoadGoldenModel(std::get<0>(GetParam()), std::get<1>(GetParam()).make(), block_size);
  }

  std::mt19937 random_{7};
};

TEST_P(BatchingTest, ChunkedPrefillEqualsWholePrefill) {
  const auto model = Load();
  const std::vector<int32_t> tokens = RandomTokens(60, random_);
  const std::vector<PositionAnswer> whole = RunAlone(model.get(), tokens, {});
  for (int largest : {1, 3, 17, 40}) {
    ModelRunner runner(model.get());
    const int sequence = runner.AddSequence();
    for (auto at = tokens.begin(); at != tokens.end();) {
      const auto end = at + std::min<std::ptrdiff_t>(1 + random_() % largest, tokens.end() - at);
      runner.Step({{sequence, {at, end}}});
      at = end;
    }
    EXPECT_TRUE(runner.answers(sequence) == whole) << "portions of up to " << largest;
  }
}

TEST_P(BatchingTest, AmongStrangersEqualsAlone) {
  const auto model = Load();
  constexpr int kNumSequences = 5;
  std::vector<std::vector<int32_t>> tokens;
  for (int s = 0; s < kNumSequences; ++s) tokens.push_back(RandomTokens(20 + 7 * s, random_));

  ModelRunner runner(model.get());
  for (int s = 0; s < kNumSequences; ++s) runner.AddSequence();
  for (bool more = true; more;) {  // prefill and decode mixed, in random order
    std::vector<ModelRunner::Feed> feeds;
    more = false;
    for (int s = 0; s < kNumSequences; ++s) {
      const size_t done = runner.answers(s).size();
      const size_t left = tokens[s].size() - done;
      const size_t count = std::min<size_t>(left, random_() % 2 ? 1 : random_() % 16);
      more = more || count < left;
      if (count == 0) continue;
      const auto begin = tokens[s].begin() + done;
      feeds.push_back({s, {begin, begin + count}});
    }
    std::shuffle(feeds.begin(), feeds.end(), random_);
    if (!feeds.empty()) runner.Step(feeds);
  }
  for (int s = 0; s < kNumSequences; ++s) {
    EXPECT_TRUE(runner.answers(s) == RunAlone(model.get(), tokens[s], {})) << "sequence " << s;
  }
}

TEST_P(BatchingTest, ScatteredBlocksEqualContiguousOnes) {
  const std::vector<int32_t> tokens = RandomTokens(50, random_);
  const auto contiguous_model = Load(/*block_size=*/512);
  const std::vector<PositionAnswer> contiguous = RunAlone(contiguous_model.get(), tokens, {});
  for (int32_t block_size : {1, 3, 16}) {
    const auto model = Load(block_size);
    std::vector<int32_t> order(model->dimensions().num_kv_blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    ModelRunner runner(model.get(), order);
    const int sequence = runner.AddSequence();
    runner.Step({{sequence, {tokens.begin(), tokens.begin() + 23}}});
    for (size_t t = 23; t < tokens.size(); ++t) runner.Step({{sequence, {tokens[t]}}});
    EXPECT_TRUE(runner.answers(sequence) == contiguous) << "blocks of " << block_size;
  }
}

TEST_P(BatchingTest, AReusedBlockHoldsNothingOfItsFormerOwner) {
  const auto model = Load();
  const std::vector<int32_t> tokens = RandomTokens(30, random_);
  const std::vector<PositionAnswer> fresh = RunAlone(model.get(), tokens, {});
  RunAlone(model.get(), RandomTokens(90, random_), {});
  EXPECT_TRUE(RunAlone(model.get(), tokens, {}) == fresh);
}

TEST_P(BatchingTest, AComputeDialTouchesItsOwnSequenceOnly) {
  const auto model = Load();
  const std::vector<std::pair<float, uint32_t>> dials = {{0.0f, 0},  {2.0f, 0}, {0.0f, 1},
                                                         {-4.0f, 2}, {1e4f, 0}, {0.0f, 0}};
  ModelRunner runner(model.get());
  std::vector<std::vector<int32_t>> tokens;
  std::vector<ModelRunner::Feed> prefill;
  std::vector<ModelRunner::Feed> decode;
  for (const auto& [null_bias, max_experts] : dials) {
    tokens.push_back(RandomTokens(12, random_));
    const int s = runner.AddSequence();
    prefill.push_back({s, {tokens[s].begin(), tokens[s].end() - 1}, null_bias, max_experts});
    decode.push_back({s, {tokens[s].back()}, null_bias, max_experts});
  }
  runner.Step(prefill);
  runner.Step(decode);
  for (size_t s = 0; s < dials.size(); ++s) {
    const auto& [null_bias, max_experts] = dials[s];
    EXPECT_TRUE(runner.answers(s) == RunAlone(model.get(), tokens[s], {}, null_bias, max_experts))
        << "sequence " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(All, BatchingTest,
                         testing::Combine(testing::Values("adamoe_m8k3_bf16", "adamoe_m16k4_f32",
                                                          "mixtral_window_f16"),
                                          testing::ValuesIn(OpsOf(Precision::kFloat32))),
                         NameOf);

}  // namespace
}  // namespace adamoe
