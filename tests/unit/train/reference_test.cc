// The reference against numbers worked out by hand, and its gradients against finite differences.
#include "train/mixtral_reference.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/unit/train/tiny_model.h"
#include "train/adamw.h"
#include "train/expert_rows.h"
#include "train/losses.h"

namespace adamoe {
namespace {

std::vector<int64_t> Ints(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

at::Tensor Tokens(int64_t batch, int64_t length, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  at::Tensor ids = at::empty({batch, length}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i) {
    ids.mutable_data_ptr<int64_t>()[i] = static_cast<int64_t>(random() % vocab);
  }
  return ids;
}

// With x = 1 the logits are the rows of gate and gate2.
RouterOutput RouteLogits(const std::vector<float>& true_logits,
                         const std::vector<float>& null_logits, int64_t k) {
  const auto column = [](const std::vector<float>& values) {
    return at::tensor(values, at::kFloat).view({static_cast<int64_t>(values.size()), 1});
  };
  return Route(at::ones({1, 1}), column(true_logits), column(null_logits), k);
}

TEST(RouteTest, TiesGoToTheLowestIndexAndNullPicksWeighNothing) {
  const RouterOutput output = RouteLogits({1, 2, 1}, {1, 2}, 4);
  EXPECT_THAT(Ints(output.picks), testing::ElementsAre(1, 4, 0, 2));
  const double e = std::exp(1.0);
  EXPECT_NEAR(output.weights[0][0].item<double>(), e / (e + 2), 1e-6);
  EXPECT_EQ(output.weights[0][1].item<double>(), 0);
  EXPECT_NEAR(output.weights[0][2].item<double>(), 1 / (e + 2), 1e-6);
  EXPECT_NEAR(output.probabilities.sum().item<double>(), 1, 1e-6);
  EXPECT_NEAR(output.probabilities[0][4].item<double>(), e / (2 * e + 3), 1e-6);
}

TEST(RouteTest, OnlyNullPicksGiveNoWeightAtAll) {
  const RouterOutput output = RouteLogits({0, 0}, {5, 5}, 2);
  EXPECT_THAT(Ints(output.picks), testing::ElementsAre(2, 3));
  EXPECT_EQ(output.weights.abs().sum().item<double>(), 0);
}

TEST(ReferenceTest, ExpertsThatNoTokenPicksTouchNothing) {
  ModelConfig config = TinyConfig();
  config.experts_per_token = 1;
  MixtralParameters parameters = LivelyParameters(config, 1);
  for (MixtralLayerParameters& layer : parameters.layers) {
    layer.w2.fill_(std::numeric_limits<float>::quiet_NaN());
    // The router's input is a multiple of the first axis; each sign has a null expert of its own.
    layer.post_attn_norm.zero_();
    layer.post_attn_norm[0] = 1;
    layer.gate.zero_();
    layer.gate2.zero_();
    layer.gate2[0][0] = 50;
    layer.gate2[1][0] = -50;
  }
  const at::Tensor ids = Tokens(1, 7, config.vocab_size, 3);
  const ReferenceOutput output = ReferenceForward(config, parameters, ids);
  EXPECT_FALSE(output.logits.isnan().any().item<bool>());
  EXPECT_EQ(TrueExpertCounts(config, output.routing).sum().item<int64_t>(), 0);
  for (MixtralLayerParameters& layer : parameters.layers) layer.gate2.zero_();
  EXPECT_TRUE(ReferenceForward(config, parameters, ids).logits.isnan().any().item<bool>());
}

TEST(ReferenceTest, APositionSeesOnlyItsWindow) {
  ModelConfig config = TinyConfig();
  config.num_layers = 1;
  config.sliding_window = 4;
  const MixtralParameters parameters = LivelyParameters(config, 5);
  at::Tensor ids = Tokens(1, 12, config.vocab_size, 4);
  const at::Tensor before = ReferenceForward(config, parameters, ids).logits;
  ids[0][3] = (ids[0][3].item<int64_t>() + 1) % config.vocab_size;
  const at::Tensor changed =
      (ReferenceForward(config, parameters, ids).logits - before).abs().amax(-1)[0];
  for (int64_t position = 0; position < 12; ++position) {
    const bool sees = position >= 3 && position < 3 + config.sliding_window;
    EXPECT_EQ(changed[position].item<float>() > 1e-6f, sees) << position;
  }
}

TEST(ExpertRowsTest, RowsAreInOrderOfExpertThenToken) {
  const at::Tensor picks = at::tensor({2, 0, 5, 1, 0, 2}, at::kLong).view({3, 2});
  const ExpertRows rows = ArrangeRows(picks, 3, /*multiple=*/1);
  EXPECT_THAT(rows.counts, testing::ElementsAre(2, 1, 2));
  EXPECT_THAT(Ints(rows.tokens), testing::ElementsAre(0, 2, 1, 0, 2));
  EXPECT_THAT(Ints(rows.row_of_pick), testing::ElementsAre(3, 0, 5, 2, 1, 4));
}

TEST(ExpertRowsTest, FillingRowsFollowEachExpertsOwnAndWeighNothing) {
  const at::Tensor picks = at::tensor({2, 0, 5, 4, 0, 2}, at::kLong).view({3, 2});
  const ExpertRows rows = ArrangeRows(picks, 3, /*multiple=*/4);
  EXPECT_THAT(rows.counts, testing::ElementsAre(4, 0, 4));
  EXPECT_EQ(rows.num_rows, 8);
  EXPECT_THAT(Ints(rows.picks), testing::ElementsAre(1, 4, 6, 6, 0, 5, 6, 6));
  EXPECT_THAT(Ints(rows.tokens), testing::ElementsAre(0, 2, 2, 2, 0, 2, 2, 2));
  EXPECT_THAT(Ints(rows.row_of_pick), testing::ElementsAre(4, 0, 8, 8, 1, 5));
  at::Tensor weights = at::ones({3, 2}, at::kFloat).requires_grad_();
  const at::Tensor of_rows = GatherWeights(weights, rows);
  EXPECT_TRUE(at::equal(of_rows, at::tensor({1, 1, 0, 0, 1, 1, 0, 0}, at::kFloat)));
  of_rows.sum().backward();
  EXPECT_TRUE(at::equal(weights.grad(), at::tensor({1, 1, 0, 0, 1, 1}, at::kFloat).view({3, 2})));
}

TEST(LossesTest, NullBalanceLossIsTheOneWorkedOutByHand) {
  // n = 2, m = 2, k = 2, three tokens.
  RouterOutput output;
  output.probabilities =
      at::tensor({0.5, 0.1, 0.3, 0.1, 0.2, 0.4, 0.1, 0.3, 0.1, 0.2, 0.6, 0.1}, at::kFloat)
          .view({3, 4});
  output.picks = at::tensor({0, 2, 1, 3, 2, 1}, at::kLong).view({3, 2});
  // f = 1/3, 2/3, 2/3, 1/3; its nulls averaged: 1/3, 2/3, 1/2, 1/2.
  // P = 0.8/3, 0.7/3, 1/3, 0.5/3. Sum of products: (0.8/3 + 1.4/3 + 0.5 + 0.25) / 3.
  const double expected = 4 * (0.8 / 3 + 1.4 / 3 + 0.5 + 0.25) / 3;
  EXPECT_NEAR(BalanceLoss(RouterLoss::kNull, output, 2).item<double>(), expected, 1e-6);
  EXPECT_NEAR(MeanBalanceLoss(RouterLoss::kNull, {output, output}, 2).item<double>(), expected,
              1e-6);
  // Each null by its own share: f = 1/3, 2/3, 2/3, 1/3.
  const double each = 4 * (0.8 / 3 + 1.4 / 3 + 2.0 / 3 + 0.5 / 3) / 3;
  EXPECT_NEAR(BalanceLoss(RouterLoss::kBalance, output, 2).item<double>(), each, 1e-6);
  EXPECT_NEAR(MeanLoad({output}, 2), 1.0, 1e-12);
}

TEST(LossesTest, AlphaFallsByHalvesOrInEqualRatios) {
  const AlphaSchedule halves{0.02, 0.0001, AlphaSchedule::Shape::kHalves};
  EXPECT_EQ(AlphaAt(halves, 0), 0.02);
  EXPECT_EQ(AlphaAt(halves, 0.49), 0.02);
  EXPECT_EQ(AlphaAt(halves, 0.5), 0.0001);
  const AlphaSchedule exponential{0.01, 0.0001, AlphaSchedule::Shape::kExponential};
  EXPECT_NEAR(AlphaAt(exponential, 0), 0.01, 1e-12);
  EXPECT_NEAR(AlphaAt(exponential, 0.5), 0.001, 1e-12);
  EXPECT_NEAR(AlphaAt(exponential, 1), 0.0001, 1e-12);
}

TEST(LossesTest, NextTokenLossIsTheMeanOverCountedTargets) {
  const at::Tensor logits = at::randn({2, 3, 8});
  const at::Tensor targets = at::tensor({0, 5, 3, 1, 1, 7}, at::kLong).view({2, 3});
  const at::Tensor counted = at::tensor({0, 1, 0, 0, 0, 1}, at::kInt).to(at::kBool).view({2, 3});
  const double expected = -(at::log_softmax(logits[0][1], -1)[5].item<double>() +
                            at::log_softmax(logits[1][2], -1)[7].item<double>()) /
                          2;
  EXPECT_NEAR(NextTokenLoss(logits, targets, counted).item<double>(), expected, 1e-6);
  EXPECT_EQ(NextTokenLoss(logits, targets, at::zeros_like(counted)).item<double>(), 0);
}

TEST(LossesTest, NextTokenLossOfUniformLogitsIsTheLogOfTheVocabulary) {
  const at::Tensor targets = at::tensor({0, 5, 3}, at::kLong).view({1, 3});
  EXPECT_NEAR(NextTokenLoss(at::zeros({1, 3, 8}), targets).item<double>(), std::log(8.0), 1e-6);
}

double TrainingLoss(const ModelConfig& config, const MixtralParameters& parameters,
                    const at::Tensor& ids, at::Tensor* loss) {
  const int64_t length = ids.size(1) - 1;
  const ReferenceOutput output = ReferenceForward(config, parameters, ids.narrow(1, 0, length));
  *loss = NextTokenLoss(output.logits, ids.narrow(1, 1, length)) +
          0.1 * MeanBalanceLoss(RouterLoss::kNull, output.routing, config.num_experts);
  return loss->item<double>();
}

class GradientTest : public testing::TestWithParam<bool> {};

TEST_P(GradientTest, EqualsFiniteDifferences) {
  at::set_num_threads(1);  // hundreds of passes over tensors too small to share
  ModelConfig config = TinyConfig();
  config.tie_word_embeddings = GetParam();
  config.sliding_window = GetParam() ? 5 : 0;
  MixtralParameters parameters = LivelyParameters(config, 11);
  std::vector<at::Tensor> leaves;
  for (at::Tensor* tensor : AllTensors(&parameters)) {
    *tensor = tensor->to(at::kDouble).set_requires_grad(true);
    leaves.push_back(*tensor);
  }
  const at::Tensor ids = Tokens(2, 9, config.vocab_size, 12);
  at::Tensor loss;
  TrainingLoss(config, parameters, ids, &loss);
  const std::vector<at::Tensor> gradients = torch::autograd::grad({loss}, leaves);
  std::mt19937_64 random(13);
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < leaves.size(); ++i) {
    for (int trial = 0; trial < 4; ++trial) {
      const int64_t at = static_cast<int64_t>(random() % leaves[i].numel());
      double* entry = leaves[i].mutable_data_ptr<double>() + at;
      const double original = *entry;
      *entry = original + kStep;
      const double above = TrainingLoss(config, parameters, ids, &loss);
      *entry = original - kStep;
      const double below = TrainingLoss(config, parameters, ids, &loss);
      *entry = original;
      const double expected = (above - below) / (2 * kStep);
      const double actual = gradients[i].contiguous().const_data_ptr<double>()[at];
      EXPECT_NEAR(actual, expected, 1e-6 + 1e-5 * std::abs(expected))
          << "tensor " << i << " entry " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(TiedAndWindowed, GradientTest, testing::Bool());

TEST(AdamWTest, FirstStepMovesEveryEntryByTheRateAgainstItsGradient) {
  const at::Tensor vector = at::zeros({3});
  AdamW optimizer({vector}, {.weight_decay = 0.5});
  optimizer.Begin();
  optimizer.Update(0, at::tensor({2.0, -0.5, 1e-3}, at::kFloat), 0.1);
  EXPECT_NEAR(vector[0].item<double>(), -0.1, 1e-5);
  EXPECT_NEAR(vector[1].item<double>(), 0.1, 1e-5);
  EXPECT_NEAR(vector[2].item<double>(), -0.1, 1e-5);
}

TEST(AdamWTest, OnlyMatricesDecay) {
  const at::Tensor vector = at::ones({2});
  const at::Tensor matrix = at::ones({2, 2});
  AdamW optimizer({vector, matrix}, {.weight_decay = 0.5});
  optimizer.Begin();
  for (size_t i : {0, 1}) optimizer.Update(i, at::zeros_like(i == 0 ? vector : matrix), 0.1);
  EXPECT_EQ(vector.min().item<double>(), 1);
  EXPECT_NEAR(matrix.max().item<double>(), 0.95, 1e-6);
}

TEST(ClipGradientsTest, ScalesOnlyWhatIsTooLong) {
  const at::Tensor a = at::tensor({3.0, 0.0}, at::kFloat);
  const at::Tensor b = at::tensor({4.0}, at::kFloat);
  EXPECT_NEAR(ClipGradients({a, b}, 10), 5, 1e-6);
  EXPECT_NEAR(a[0].item<double>(), 3, 1e-6);
  EXPECT_NEAR(ClipGradients({a, b}, 1), 5, 1e-6);
  EXPECT_NEAR(a[0].item<double>(), 0.6, 1e-6);
  EXPECT_NEAR(b[0].item<double>(), 0.8, 1e-6);
}

}  // namespace
}  // namespace adamoe
