#include "server/model/mixtral_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "tests/unit/model/golden.h"
#include "tests/unit/model/model_runner.h"
#include "tests/unit/model/ops_under_test.h"

namespace adamoe {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr char kAdamoe[] = "adamoe_m8k3_bf16";  // n = 8, m = 8, k = 3, two layers

// On the best instruction set.
std::unique_ptr<Ops> MakeOps() {
  static const OpsUnderTest* const ops = new OpsUnderTest(OpsOf(Precision::kFloat32).back());
  return ops->make();
}

std::unique_ptr<MixtralModel> LoadModel() { return LoadGoldenModel(kAdamoe, MakeOps()); }

// Two sequences: four tokens of a fresh one, and the third token of another.
ForwardBatch TwoSequences() {
  ForwardBatch batch;
  batch.token_ids = {5, 6, 7, 8, 9};
  batch.positions = {0, 1, 2, 3, 2};
  batch.kv_slots = {0, 1, 2, 3, 34};
  batch.null_bias.assign(5, 0.0f);
  batch.max_experts.assign(5, 0);
  batch.token_begin = {0, 4, 5};
  batch.context_lens = {4, 3};
  batch.block_tables = {{0}, {2}};
  batch.logit_rows = {0, 1, 2, 3, 4};
  return batch;
}

TEST(MixtralModelTest, DimensionsDescribeTheCheckpointAndTheCache) {
  auto model = MixtralModel::Create(LoadGoldenWeights(kAdamoe), MakeOps(),
                                    {.kv_cache_tokens = 50, .block_size = 16});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelDimensions& dimensions = (*model)->dimensions();
  EXPECT_EQ(dimensions.vocab_size, 96);
  EXPECT_EQ(dimensions.num_layers, 2);
  EXPECT_EQ(dimensions.num_experts, 8);
  EXPECT_EQ(dimensions.num_kv_blocks, 4);
  EXPECT_EQ(dimensions.kv_block_size, 16);
  EXPECT_EQ(dimensions.max_context_tokens, 64) << "the cache is smaller than the model's limit";
  EXPECT_EQ(dimensions.flops_per_slot, 2u * 3 * 32 * 48);
  // Two layers, four query heads of 8, two of keys and values; eight experts and eight null ones.
  EXPECT_EQ(dimensions.projection_flops, 2u * 2 * 32 * (32 + 16 + 16 + 32));
  EXPECT_EQ(dimensions.attention_flops_per_key, 2u * 2 * 2 * 32);
  EXPECT_EQ(dimensions.router_flops, 2u * 2 * 32 * 16);
  EXPECT_EQ(dimensions.lm_head_flops, 2u * 32 * 96);
  EXPECT_EQ(dimensions.sliding_window, 0);
}

TEST(MixtralModelTest, RefusesACacheItCannotHave) {
  const auto create = [](MixtralModel::Options options) {
    return MixtralModel::Create(LoadGoldenWeights(kAdamoe), MakeOps(), options).status();
  };
  EXPECT_EQ(create({.kv_cache_tokens = 0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.kv_cache_tokens = int64_t{1} << 40}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create({.kv_cache_tokens = 64, .block_size = 0}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(create({.kv_cache_tokens = -3}).message()), HasSubstr("-3"));
}

TEST(MixtralModelTest, LogitRowsAreThoseOfTheWholeBatch) {
  const auto model = LoadModel();
  ForwardBatch batch = TwoSequences();
  ForwardResult all;
  ASSERT_TRUE(model->Forward(batch, &all).ok());
  batch.logit_rows = {1, 4};
  ForwardResult some;
  ASSERT_TRUE(model->Forward(batch, &some).ok());
  const int64_t vocab = model->dimensions().vocab_size;
  ASSERT_EQ(some.logits.size(), 2u * vocab);
  for (int64_t i = 0; i < vocab; ++i) {
    EXPECT_EQ(some.logits[i], all.logits[1 * vocab + i]);
    EXPECT_EQ(some.logits[vocab + i], all.logits[4 * vocab + i]);
  }
  batch.logit_rows.clear();
  ASSERT_TRUE(model->Forward(batch, &some).ok());
  EXPECT_TRUE(some.logits.empty());
  EXPECT_EQ(some.executed, all.executed);
}

TEST(MixtralModelTest, TokensWithoutTrueExpertsGetNothingFromTheMoe) {
  const std::vector<int32_t> tokens = {4, 40, 17, 33, 8, 60};
  const auto model = LoadModel();
  const auto answers = RunAlone(model.get(), tokens, {11, 12}, /*null_bias=*/1e5f);

  // The same model with every expert's output projection zeroed.
  MixtralWeights silent = LoadGoldenWeights(kAdamoe);
  const auto zeros = std::make_shared<std::vector<float>>(32 * 48, 0.0f);
  for (auto& layer : silent.layers) {
    for (auto& expert : layer.experts) {
      expert.w2.data = zeros->data();
      expert.w2.dtype = DType::kFloat32;
    }
  }
  auto silent_model = MixtralModel::Create(std::move(silent), MakeOps(), {.kv_cache_tokens = 64});
  ASSERT_TRUE(silent_model.ok());
  const auto expected = RunAlone(silent_model->get(), tokens, {11, 12});

  ASSERT_EQ(answers.size(), expected.size());
  for (size_t t = 0; t < answers.size(); ++t) {
    EXPECT_EQ(answers[t].logits, expected[t].logits) << "position " << t;
    EXPECT_THAT(answers[t].executed, Each(0));
    EXPECT_THAT(answers[t].null_slots, Each(3));
  }
}

TEST(MixtralModelTest, BiasAgainstNullsMakesEveryPickTrue) {
  const auto model = LoadModel();
  for (const auto& answer : RunAlone(model.get(), {4, 40, 17}, {}, /*null_bias=*/-1e5f)) {
    EXPECT_THAT(answer.executed, Each(3));
  }
  for (const auto& answer : RunAlone(model.get(), {4, 40, 17}, {}, -1e5f, /*max_experts=*/1)) {
    EXPECT_THAT(answer.executed, Each(1));
    EXPECT_THAT(answer.dropped, Each(2));
  }
}

// m = 2 and k = 3: the third pick is a true expert however the nulls are favoured.
TEST(MixtralModelTest, AnEnormousBiasLeavesTheWeightsOfTheLastTrueExpertWhole) {
  const auto model = LoadGoldenModel("adamoe_few_null_bf16", MakeOps());
  for (const auto& answer : RunAlone(model.get(), {4, 40, 17}, {}, /*null_bias=*/1e5f)) {
    EXPECT_THAT(answer.executed, Each(1));
    EXPECT_THAT(answer.null_slots, Each(2));
    EXPECT_TRUE(std::all_of(answer.logits.begin(), answer.logits.end(),
                            [](float logit) { return std::isfinite(logit); }));
  }
}

TEST(MixtralModelTest, Float32AnswersDoNotDependOnTheNumberOfThreads) {
  const std::vector<int32_t> prompt = {4, 40, 17, 33, 8, 60, 71, 2, 5};
  const OpsUnderTest one = OpsOf(Precision::kFloat32, 1).back();
  const OpsUnderTest four = OpsOf(Precision::kFloat32, 4).back();
  const auto alone = LoadGoldenModel(kAdamoe, one.make());
  const auto shared = LoadGoldenModel(kAdamoe, four.make());
  EXPECT_TRUE(RunAlone(alone.get(), prompt, {3, 9, 27}) ==
              RunAlone(shared.get(), prompt, {3, 9, 27}));
}

TEST(MixtralModelTest, ResultVectorsAreReusedBetweenStepsOfDifferentSizes) {
  const auto model = LoadModel();
  ForwardResult result;
  ASSERT_TRUE(model->Forward(TwoSequences(), &result).ok());
  const ForwardResult first = result;
  ForwardBatch one = TwoSequences();
  one.token_ids.resize(1);
  one.positions.resize(1);
  one.kv_slots.resize(1);
  one.null_bias.resize(1);
  one.max_experts.resize(1);
  one.token_begin = {0, 1};
  one.context_lens = {1};
  one.block_tables.resize(1);
  one.logit_rows = {0};
  ASSERT_TRUE(model->Forward(one, &result).ok());
  EXPECT_EQ(result.executed.size(), 2u);
  EXPECT_EQ(result.logits.size(), 96u);
  ASSERT_TRUE(model->Forward(TwoSequences(), &result).ok());
  EXPECT_EQ(result.logits, first.logits);
  EXPECT_EQ(result.expert_rows, first.expert_rows);
}

struct BrokenBatch {
  const char* what;
  void (*breaks)(ForwardBatch*);
  const char* message;
};

class BrokenBatchTest : public testing::TestWithParam<BrokenBatch> {};

TEST_P(BrokenBatchTest, IsRefusedBeforeItReachesMemory) {
  const auto model = LoadModel();
  ForwardBatch batch = TwoSequences();
  GetParam().breaks(&batch);
  ForwardResult result;
  const absl::Status status = model->Forward(batch, &result);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();

INSTANTIATE_TEST_SUITE_P(
    All, BrokenBatchTest,
    testing::Values(
        BrokenBatch{"Empty", [](ForwardBatch* b) { *b = {}; }, "sizes"},
        BrokenBatch{"TokenOutOfVocabulary", [](ForwardBatch* b) { b->token_ids[1] = 96; },
                    "token_ids[1] is 96"},
        BrokenBatch{"NegativeToken", [](ForwardBatch* b) { b->token_ids[4] = -1; },
                    "token_ids[4] is -1"},
        BrokenBatch{"SlotOutOfCache", [](ForwardBatch* b) { b->kv_slots[0] = 512; },
                    "kv_slots[0] is 512"},
        BrokenBatch{"BlockOutOfCache", [](ForwardBatch* b) { b->block_tables[1] = {32}; },
                    "block_tables"},
        BrokenBatch{"TooFewBlocks", [](ForwardBatch* b) { b->block_tables[1].clear(); },
                    "0 blocks for a context of 3"},
        BrokenBatch{"PositionsLeaveAGap", [](ForwardBatch* b) { b->positions[2] = 3; },
                    "positions[2] is 3, expected 2"},
        BrokenBatch{"ContextTooLong", [](ForwardBatch* b) { b->context_lens[0] = kHuge; },
                    "positions[0] is 0"},
        BrokenBatch{"NegativeContext", [](ForwardBatch* b) { b->context_lens[1] = -1; },
                    "positions[4] is 2"},
        BrokenBatch{"LogitRowOutOfBatch", [](ForwardBatch* b) { b->logit_rows.push_back(5); },
                    "logit_rows[5] is 5"},
        BrokenBatch{"SequencesDoNotSpanTheTokens", [](ForwardBatch* b) { b->token_begin[2] = 4; },
                    "token_begin"},
        BrokenBatch{"EmptySequence", [](ForwardBatch* b) { b->token_begin[1] = 0; },
                    "sequence 0 has no tokens"},
        BrokenBatch{"SequenceBeyondTheTokens", [](ForwardBatch* b) { b->token_begin[1] = 9; },
                    "sequence 0 has no tokens"},
        BrokenBatch{"MissingDial", [](ForwardBatch* b) { b->null_bias.pop_back(); }, "sizes"}),
    [](const auto& info) { return std::string(info.param.what); });

}  // namespace
}  // namespace adamoe
