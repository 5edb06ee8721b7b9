// The whole model against Hugging Face's Mixtral and the AdaMoE reference, on every instruction set
// of this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "tests/unit/model/golden.h"
#include "tests/unit/model/model_runner.h"
#include "tests/unit/model/ops_under_test.h"

namespace adamoe {
namespace {

std::vector<float> LogSoftmax(const std::vector<float>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  std::vector<float> logprobs;
  for (float logit : logits) logprobs.push_back(logit - largest - std::log(sum));
  return logprobs;
}

int32_t ArgMax(const std::vector<float>& logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

// The experts run in the last step, by layer. REQUIRES: the step had one token.
std::vector<std::vector<int32_t>> ExpertsOf(const ModelRunner& runner, const ModelDimensions& d) {
  std::vector<std::vector<int32_t>> experts(d.num_layers);
  for (int32_t layer = 0; layer < d.num_layers; ++layer) {
    for (int32_t e = 0; e < d.num_experts; ++e) {
      if (runner.expert_rows()[layer * d.num_experts + e] > 0) experts[layer].push_back(e);
    }
  }
  return experts;
}

using Param = std::tuple<std::string, OpsUnderTest>;

std::string NameOf(const testing::TestParamInfo<Param>& info) {
  return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
}

class GoldenTest : public testing::TestWithParam<Param> {
 protected:
  GoldenTest()
      : golden_(ReadGolden(std::get<0>(GetParam()))),
        model_(LoadGoldenModel(golden_.name, std::get<1>(GetParam()).make())) {}

  const Golden golden_;
  const std::unique_ptr<MixtralModel> model_;
};

class Float32GoldenTest : public GoldenTest {
 protected:
  void ExpectAnswers(const GoldenSequence& expected, const std::vector<PositionAnswer>& answers) {
    const size_t num_fed = expected.prompt.size() + expected.greedy.size() - 1;
    ASSERT_EQ(answers.size(), num_fed);
    for (size_t t = 0; t < num_fed; ++t) {
      SCOPED_TRACE(testing::Message() << "position " << t);
      ExpectLogprobs(expected, t, LogSoftmax(answers[t].logits));
      for (size_t layer = 0; layer < expected.experts.size(); ++layer) {
        EXPECT_EQ(answers[t].executed[layer], expected.experts[layer][t].size());
        EXPECT_EQ(answers[t].null_slots[layer], expected.null_slots[layer][t]);
        EXPECT_EQ(answers[t].dropped[layer], expected.dropped[layer][t]);
      }
    }
  }

  static void ExpectLogprobs(const GoldenSequence& expected, size_t t,
                             const std::vector<float>& logprobs) {
    constexpr float kTolerance = 1e-3f;
    const size_t num_prompt = expected.prompt.size();
    const int32_t next =
        t + 1 < num_prompt ? expected.prompt[t + 1] : expected.greedy[t + 1 - num_prompt];
    EXPECT_NEAR(logprobs[next], expected.next_logprobs[t], kTolerance);
    for (size_t i = 0; i < expected.top_ids[t].size(); ++i) {
      EXPECT_NEAR(logprobs[expected.top_ids[t][i]], expected.top_logprobs[t][i], kTolerance);
    }
  }
};

TEST_P(Float32GoldenTest, DimensionsAreThoseOfTheCheckpoint) {
  EXPECT_EQ(model_->dimensions().num_null_experts, golden_.num_null_experts);
  EXPECT_EQ(model_->dimensions().experts_per_token, golden_.experts_per_token);
  EXPECT_EQ(model_->dimensions().max_context_tokens, 128) << "max_position_embeddings";
}

TEST_P(Float32GoldenTest, GreedyContinuationsAndEveryPositionAgree) {
  for (const GoldenSequence& expected : golden_.sequences) {
    ModelRunner runner(model_.get());
    const int sequence = runner.AddSequence();
    runner.Step({{sequence, expected.prompt, expected.null_bias, expected.max_experts}});
    std::vector<int32_t> greedy = {ArgMax(runner.answers(sequence).back().logits)};
    while (greedy.size() < expected.greedy.size()) {
      runner.Step({{sequence, {greedy.back()}, expected.null_bias, expected.max_experts}});
      greedy.push_back(ArgMax(runner.answers(sequence).back().logits));
    }
    EXPECT_EQ(greedy, expected.greedy);
    ExpectAnswers(expected, runner.answers(sequence));
  }
}

TEST_P(Float32GoldenTest, TheSameExpertsRunAtEveryPosition) {
  for (const GoldenSequence& expected : golden_.sequences) {
    ModelRunner runner(model_.get());
    const int sequence = runner.AddSequence();
    const std::vector<int32_t> fed = expected.Fed();
    for (size_t t = 0; t < fed.size(); ++t) {
      runner.Step({{sequence, {fed[t]}, expected.null_bias, expected.max_experts}});
      const auto experts = ExpertsOf(runner, model_->dimensions());
      for (size_t layer = 0; layer < experts.size(); ++layer) {
        EXPECT_EQ(experts[layer], expected.experts[layer][t]) << "layer " << layer << " at " << t;
      }
    }
  }
}

TEST_P(Float32GoldenTest, AllSequencesInOneBatchAgree) {
  ModelRunner runner(model_.get());
  std::vector<ModelRunner::Feed> feeds;
  for (const GoldenSequence& expected : golden_.sequences) {
    feeds.push_back(
        {runner.AddSequence(), expected.Fed(), expected.null_bias, expected.max_experts});
  }
  runner.Step(feeds);
  for (size_t s = 0; s < golden_.sequences.size(); ++s) {
    ExpectAnswers(golden_.sequences[s], runner.answers(s));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Float32GoldenTest,
                         testing::Combine(testing::ValuesIn(GoldenNames()),
                                          testing::ValuesIn(OpsOf(Precision::kFloat32))),
                         NameOf);

using BFloat16GoldenTest = GoldenTest;

// Rounding the activations moves single values and, near a tie, single experts: the median tells
// whether the model is the same.
TEST_P(BFloat16GoldenTest, LogprobsAgreeInTheMedian) {
  std::vector<float> differences;
  size_t num_positions = 0;
  size_t num_same_counts = 0;
  for (const GoldenSequence& expected : golden_.sequences) {
    const std::vector<PositionAnswer> answers =
        RunAlone(model_.get(), expected.Fed(), {}, expected.null_bias, expected.max_experts);
    for (size_t t = 0; t < answers.size(); ++t) {
      const std::vector<float> logprobs = LogSoftmax(answers[t].logits);
      for (size_t i = 0; i < expected.top_ids[t].size(); ++i) {
        differences.push_back(
            std::abs(logprobs[expected.top_ids[t][i]] - expected.top_logprobs[t][i]));
      }
      for (size_t layer = 0; layer < expected.experts.size(); ++layer) {
        ++num_positions;
        num_same_counts += answers[t].executed[layer] == expected.experts[layer][t].size();
      }
    }
  }
  std::nth_element(differences.begin(), differences.begin() + differences.size() / 2,
                   differences.end());
  EXPECT_LE(differences[differences.size() / 2], 3e-2f);
  EXPECT_GE(num_same_counts, num_positions * 95 / 100);
}

INSTANTIATE_TEST_SUITE_P(All, BFloat16GoldenTest,
                         testing::Combine(testing::ValuesIn(GoldenNames()),
                                          testing::ValuesIn(OpsOf(Precision::kBFloat16))),
                         NameOf);

}  // namespace
}  // namespace adamoe
