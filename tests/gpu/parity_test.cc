// What the tests of the CUDA model take for proven: a difference that a tie explains is found with
// its tie, and one that no tie explains is not explained away.
#include "tests/gpu/parity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "server/weights/mixtral_weights.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/temp_folder.h"
#include "tests/gpu/backend.h"

namespace adamoe {
namespace {

constexpr cuda::CudaModel::Options kOptions{.kv_cache_tokens = 512, .block_size = 16};
constexpr double kTieGap = 0.02;
constexpr double kTolerance = 0.1;

// Adds to one logit of one step.
class OffByOneLogit : public Model {
 public:
  OffByOneLogit(Model* model, int step, float error) : model_(model), step_(step), error_(error) {}
  const ModelDimensions& dimensions() const override { return model_->dimensions(); }
  absl::Status Forward(const ForwardBatch& batch, ForwardResult* result) override {
    const absl::Status status = model_->Forward(batch, result);
    if (step_-- == 0) result->logits[17] += error_;
    return status;
  }

 private:
  Model* const model_;
  int step_;
  const float error_;
};

class ParityTest : public testing::Test {
 protected:
  void SetUp() override {
    CheckpointOptions checkpoint;
    checkpoint.config.num_layers = 3;
    ASSERT_TRUE(WriteCheckpoint(checkpoint, folder_ / "model").ok());
    auto weights = LoadMixtral({.model_dir = folder_ / "model"});
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
    for (int i = 0; i < 5; ++i) plan_.prompts.push_back(SeededTokens(40, i + 1, 300));
    plan_.num_decode_steps = 3;
    plan_.null_bias = 0.7f;
    plan_.max_experts = 1;
    oracle_ = MakeCpuModel(weights_, Precision::kFloat32, kOptions, &probe_);
  }

  // Every pair of experts whose exchange would change a token's picks, in the plan's first step.
  std::vector<RouterTie> Pairs() {
    RoutingProbe probe(weights_.config.num_layers, 1e9);
    const auto model = MakeCpuModel(weights_, Precision::kFloat32, kOptions, &probe);
    ParityPlan prefill = plan_;
    prefill.num_decode_steps = 0;
    CompareModels(*model, *model, prefill, kTolerance, &probe);
    return probe.ties();
  }

  // A model that differs from the oracle by these exchanges alone, against the oracle.
  ParityReport CompareWithExchanged(const std::vector<RouterTie>& exchanged) {
    RoutingProbe probe(weights_.config.num_layers, kTieGap);
    const auto model = MakeCpuModel(weights_, Precision::kFloat32, kOptions, &probe);
    probe.Restart(exchanged);
    return CompareModels(*model, *oracle_, plan_, kTolerance, &probe_);
  }

  TempFolder folder_;
  MixtralWeights weights_;
  ParityPlan plan_;
  RoutingProbe probe_{3, kTieGap};
  std::unique_ptr<Model> oracle_;
};

TEST_F(ParityTest, AModelEqualsItself) {
  const ParityReport report = CompareWithExchanged({});
  EXPECT_EQ(report.num_positions, 5 * 43);
  EXPECT_EQ(report.num_positions_compared, report.num_positions);
  EXPECT_EQ(report.num_unexplained, 0);
  EXPECT_TRUE(report.ties.empty());
  EXPECT_EQ(report.max_error, 0.0);
}

// Each as the only difference: found, or too small to be one.
TEST_F(ParityTest, TheOtherPickOfATieIsFound) {
  int num_found = 0;
  for (const RouterTie& tie : Pairs()) {
    if (tie.gap > kTieGap) continue;
    SCOPED_TRACE(tie.ToString());
    const ParityReport report = CompareWithExchanged({tie});
    EXPECT_EQ(report.num_unexplained, 0);
    EXPECT_EQ(report.num_positions_compared, report.num_positions);
    if (report.ties.empty()) continue;
    ++num_found;
    EXPECT_EQ(report.ties.size(), 1u);
    EXPECT_EQ(report.ties[0].layer, tie.layer);
    EXPECT_EQ(report.ties[0].token, tie.token);
    EXPECT_EQ(report.max_error, 0.0);
  }
  EXPECT_GE(num_found, 5);
}

TEST_F(ParityTest, APickThatIsNoTieIsNotExplained) {
  int num_tried = 0;
  for (const RouterTie& pair : Pairs()) {
    if (pair.gap < 0.5 || pair.token % 40 != 7) continue;
    SCOPED_TRACE(pair.ToString());
    const ParityReport report = CompareWithExchanged({pair});
    if (report.num_unexplained == 0) {
      EXPECT_LT(report.max_error, ParityReport::kFar);  // a pick of little weight
      continue;
    }
    ++num_tried;
    EXPECT_EQ(report.num_unexplained, 1);
    EXPECT_LT(report.num_positions_compared, report.num_positions);
  }
  EXPECT_GE(num_tried, 5);
}

TEST_F(ParityTest, AWrongLogitIsNotExplained) {
  const auto model = MakeCpuModel(weights_, Precision::kFloat32, kOptions);
  OffByOneLogit off(model.get(), 1, 3.0f);
  const ParityReport report = CompareModels(off, *oracle_, plan_, kTolerance, &probe_);
  EXPECT_EQ(report.num_unexplained, 1);
  EXPECT_EQ(report.num_positions_compared, report.num_positions - 3);
  OffByOneLogit slightly(model.get(), 1, 0.05f);
  const ParityReport close = CompareModels(slightly, *oracle_, plan_, kTolerance, &probe_);
  EXPECT_EQ(close.num_unexplained, 0);
  EXPECT_GT(close.max_error, 0.01);
}

}  // namespace
}  // namespace adamoe
