// The CUDA model against the CPU's, of the same files: random shapes, the demo model, graphs and
// padding. Runs on a GPU, and with plain-loop kernels on the host.
#include "server/cuda/cuda_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "server/weights/mixtral_weights.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/temp_folder.h"
#include "tests/gpu/backend.h"
#include "tests/gpu/parity.h"
#include "tests/unit/model/model_runner.h"

namespace adamoe {
namespace {

using cuda::CudaModel;
using testing::HasSubstr;

constexpr CudaModel::Options kOptions{
    .kv_cache_tokens = 4096, .block_size = 16, .max_batch_tokens = 512, .max_sequences = 64};

// RouterTie::gap. The router's inputs are off by 0.002 to 0.004 of their length where they come
// from bfloat16 by other sums.
constexpr double kTieGap = 0.01;

class CudaModelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "no GPU";
  }

  MixtralWeights Load(const CheckpointOptions& options) {
    const std::string dir = folder_ / ("model" + std::to_string(num_models_++));
    EXPECT_TRUE(WriteCheckpoint(options, dir).ok());
    return Load(dir);
  }
  static MixtralWeights Load(const std::string& dir) {
    auto weights = LoadMixtral({.model_dir = dir});
    EXPECT_TRUE(weights.ok()) << weights.status();
    return *std::move(weights);
  }
  static std::unique_ptr<CudaModel> Make(const MixtralWeights& weights,
                                         const CudaModel::Options& options = kOptions) {
    auto model = MakeGpuModel(weights, options);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

  TempFolder folder_;
  int num_models_ = 0;
};

ParityReport CompareWithCpu(Model& model, const MixtralWeights& weights, const ParityPlan& plan,
                            Precision precision = Precision::kBFloat16, double tolerance = 0.1,
                            const CudaModel::Options& options = kOptions) {
  RoutingProbe probe(weights.config.num_layers, kTieGap);
  const auto oracle = MakeCpuModel(weights, precision, options, &probe);
  return CompareModels(model, *oracle, plan, tolerance, &probe);
}

// Within bfloat16's rounding of each other: differences that no rounding explains are larger by an
// order of magnitude.
void ExpectParity(const ParityReport& report, const std::string& what) {
  std::printf("%s: %s\n", what.c_str(), report.ToString().c_str());
  EXPECT_EQ(report.num_unexplained, 0) << what;
  EXPECT_LE(static_cast<int64_t>(report.ties.size()), 2 + report.num_routings / 100) << what;
  EXPECT_LT(report.median_error, 0.01) << what;
  EXPECT_EQ(report.num_argmax_differences, 0) << what;
}

std::vector<std::vector<int32_t>> Prompts(int count, int32_t longest, int32_t vocab_size) {
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < count; ++i) {
    prompts.push_back(SeededTokens(1 + (i * 37 + longest) % longest, i + 1, vocab_size));
  }
  return prompts;
}

struct Shape {
  const char* name;
  int32_t hidden, intermediate, heads, kv_heads, head_dim, experts, null_experts, k, window;
  int32_t longest_prompt, chunk;  // tokens; of a prompt in one step, 0: all
  uint64_t seed;
};

class RandomModelTest : public CudaModelTest, public testing::WithParamInterface<Shape> {};

TEST_P(RandomModelTest, AnswersAsTheCpus) {
  const Shape& shape = GetParam();
  CheckpointOptions options;
  options.seed = shape.seed;
  options.config.hidden_size = shape.hidden;
  options.config.intermediate_size = shape.intermediate;
  options.config.num_heads = shape.heads;
  options.config.num_kv_heads = shape.kv_heads;
  options.config.head_dim = shape.head_dim;
  options.config.num_experts = shape.experts;
  options.config.num_null_experts = shape.null_experts;
  options.config.experts_per_token = shape.k;
  options.config.sliding_window = shape.window;
  const MixtralWeights weights = Load(options);
  const auto model = Make(weights);
  const ParityPlan plan{.prompts = Prompts(5, shape.longest_prompt, options.config.vocab_size),
                        .num_decode_steps = 8,
                        .prefill_chunk = shape.chunk,
                        .null_bias = 0.7f,
                        .max_experts = 1};
  ExpectParity(CompareWithCpu(*model, weights, plan), shape.name);
}

// Heads of 8 and 40 go through the decode kernel. A tile of queries has 128 / (heads / kv_heads)
// tokens, one of keys 64.
INSTANTIATE_TEST_SUITE_P(
    Shapes, RandomModelTest,
    testing::Values(Shape{"NullExperts", 32, 48, 4, 2, 8, 4, 2, 3, 0, 60, 0, 1},
                    Shape{"AsManyNulls", 64, 96, 4, 4, 32, 8, 8, 3, 0, 60, 0, 2},
                    Shape{"Mixtral", 64, 104, 8, 2, 32, 8, 0, 2, 24, 60, 0, 3},
                    Shape{"MostlyNulls", 128, 64, 2, 1, 64, 3, 5, 4, 0, 60, 0, 4},
                    Shape{"ManyExperts", 96, 72, 4, 1, 128, 16, 16, 4, 7, 60, 0, 5},
                    Shape{"OneExpert", 64, 64, 2, 2, 40, 1, 1, 1, 0, 60, 0, 6},
                    Shape{"LongPrompts", 64, 96, 4, 2, 32, 8, 4, 3, 0, 150, 0, 7},
                    Shape{"LongPromptsInAWindow", 64, 96, 4, 2, 64, 8, 4, 3, 90, 150, 0, 8},
                    Shape{"ChunksInAWindow", 64, 96, 4, 4, 32, 8, 4, 3, 37, 150, 50, 9}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(CudaModelTest, FilesOfAnyTypeAreConverted) {
  for (const DType dtype : {DType::kFloat16, DType::kFloat32}) {
    CheckpointOptions options;
    options.dtype = dtype;
    const MixtralWeights weights = Load(options);
    const auto model = Make(weights);
    const ParityPlan plan{.prompts = Prompts(4, 40, 300), .num_decode_steps = 4};
    ExpectParity(CompareWithCpu(*model, weights, plan, Precision::kFloat32, 0.3), Name(dtype));
  }
}

TEST_F(CudaModelTest, TheDemoModelAnswersAsTheCpus) {
  const MixtralWeights weights = Load(ADAMOE_SOURCE_DIR "/deploy/demo_model");
  const auto model = Make(weights);
  const ParityPlan plan{.prompts = Prompts(4, 64, weights.config.vocab_size),
                        .num_decode_steps = 12,
                        .prefill_chunk = 24};
  ExpectParity(CompareWithCpu(*model, weights, plan), "demo model");
}

// Graphs and padding change sizes, not sums: on one device the same kernels run on the same rows.
TEST_F(CudaModelTest, GraphsAndPaddingAreNeutral) {
  CheckpointOptions checkpoint;
  checkpoint.config.num_layers = 3;
  const MixtralWeights weights = Load(checkpoint);
  CudaModel::Options eager = kOptions;
  eager.use_graphs = false;
  const auto with_graphs = Make(weights);
  const auto without = Make(weights, eager);
  for (const int num_sequences : {1, 3, 5, 8, 13}) {
    const ParityPlan plan{.prompts = Prompts(num_sequences, 12, 300),
                          .num_decode_steps = 6,
                          .null_bias = 0.4f,
                          .max_experts = 2};
    const ParityReport report = CompareModels(*with_graphs, *without, plan, 0.02);
    std::printf("%d sequences: %s\n", num_sequences, report.ToString().c_str());
    EXPECT_LE(report.num_unexplained, report.num_routings / 100);
    EXPECT_LT(report.max_error, 0.05);
    EXPECT_EQ(report.num_argmax_differences, 0);
  }
  EXPECT_EQ(with_graphs->num_graphs(), 4) << "1, 4, 8 and 16 tokens";
  EXPECT_EQ(without->num_graphs(), 0);
}

TEST_F(CudaModelTest, ExpertRowsAreThoseThatRan) {
  const MixtralWeights weights = Load(CheckpointOptions());
  const auto model = Make(weights);
  const auto oracle = MakeCpuModel(weights, Precision::kBFloat16, kOptions);
  ModelRunner runner(model.get());  // which checks that rows add up to the executed slots
  ModelRunner oracle_runner(oracle.get());
  runner.AddSequence();
  oracle_runner.AddSequence();
  int differences = 0;
  for (const int32_t token : SeededTokens(40, 3, 300)) {
    runner.Step({{0, {token}}});
    oracle_runner.Step({{0, {token}}});
    differences += runner.expert_rows() != oracle_runner.expert_rows();
  }
  EXPECT_LE(differences, 2) << "of 40 tokens with other experts";
}

TEST_F(CudaModelTest, LongContextsGoOnInLargerGraphs) {
  CheckpointOptions checkpoint;
  checkpoint.config.max_position_embeddings = 2048;
  const MixtralWeights weights = Load(checkpoint);
  CudaModel::Options options = kOptions;
  options.block_size = 4;  // 16 columns: 64 positions
  const auto model = Make(weights, options);
  const ParityPlan plan{.prompts = {SeededTokens(60, 1, 300), SeededTokens(125, 2, 300)},
                        .num_decode_steps = 12};
  ExpectParity(CompareWithCpu(*model, weights, plan, Precision::kBFloat16, 0.1, options),
               "across 64 and 128 positions");
  EXPECT_EQ(model->num_graphs(), 2) << "32 and 64 columns";
}

TEST_F(CudaModelTest, LogitsOfMoreRowsThanAreMadeAtATime) {
  const MixtralWeights weights = Load(CheckpointOptions());
  CudaModel::Options options = kOptions;
  options.max_batch_tokens = 400;  // 256 rows at a time
  const auto model = Make(weights, options);
  const ParityPlan plan{.prompts = {SeededTokens(390, 5, 300)}, .num_decode_steps = 0};
  ExpectParity(CompareWithCpu(*model, weights, plan, Precision::kBFloat16, 0.1, options),
               "390 rows");
}

TEST_F(CudaModelTest, ABatchAloneEqualsItsPartsWithinRounding) {
  const MixtralWeights weights = Load(CheckpointOptions());
  const auto model = Make(weights);
  const auto prompts = Prompts(6, 40, 300);
  ModelRunner together(model.get());
  std::vector<ModelRunner::Feed> feeds;
  for (const auto& prompt : prompts) feeds.push_back({together.AddSequence(), prompt});
  together.Step(feeds);
  int64_t differences = 0;
  for (size_t s = 0; s < prompts.size(); ++s) {
    const auto alone = RunAlone(model.get(), prompts[s], {});
    for (size_t i = 0; i < alone.size(); ++i) {
      if (together.answers(s)[i].executed != alone[i].executed) {
        ++differences;
        break;
      }
      for (size_t v = 0; v < alone[i].logits.size(); ++v) {
        ASSERT_NEAR(together.answers(s)[i].logits[v], alone[i].logits[v], 0.1);
      }
    }
  }
  EXPECT_LE(differences, 1) << "sequences routed otherwise";
}

TEST_F(CudaModelTest, DimensionsDescribeTheCheckpointAndTheCache) {
  const MixtralWeights weights = Load(CheckpointOptions());
  CudaModel::Options options = kOptions;
  options.kv_cache_tokens = 50;
  const ModelDimensions dimensions = Make(weights, options)->dimensions();
  EXPECT_EQ(dimensions.num_kv_blocks, 4);
  EXPECT_EQ(dimensions.kv_block_size, 16);
  EXPECT_EQ(dimensions.max_context_tokens, 64);
  EXPECT_EQ(dimensions.vocab_size, 300);
  EXPECT_EQ(dimensions.flops_per_slot, 2u * 3 * 32 * 48);
}

TEST_F(CudaModelTest, RefusesWhatItCannotRun) {
  CheckpointOptions checkpoint;
  checkpoint.config.intermediate_size = 44;  // no multiple of 8
  const absl::Status shape = MakeGpuModel(Load(checkpoint), kOptions).status();
  EXPECT_TRUE(absl::IsInvalidArgument(shape)) << shape;
  EXPECT_THAT(std::string(shape.message()), HasSubstr("intermediate_size"));

  CudaModel::Options options = kOptions;
  options.kv_cache_tokens = (int64_t{1} << 30) - 1;
  checkpoint = CheckpointOptions();
  checkpoint.config.num_kv_heads = 4;
  checkpoint.config.head_dim = 128;  // 4 KiB per token: 4 TiB
  const absl::Status memory = MakeGpuModel(Load(checkpoint), options).status();
  EXPECT_TRUE(absl::IsResourceExhausted(memory)) << memory;
  EXPECT_THAT(std::string(memory.message()), HasSubstr("--kv_cache_tokens"));
}

TEST_F(CudaModelTest, ABatchThatBreaksItsContractIsRefused) {
  const MixtralWeights weights = Load(CheckpointOptions());
  CudaModel::Options options = kOptions;
  options.max_batch_tokens = 16;
  const auto model = Make(weights, options);
  ForwardResult result;
  EXPECT_TRUE(absl::IsInternal(model->Forward(ForwardBatch(), &result)));
  ForwardBatch large;
  large.token_ids.assign(17, 1);
  large.kv_slots.assign(17, 0);
  large.null_bias.assign(17, 0.0f);
  large.max_experts.assign(17, 0);
  for (int i = 0; i < 17; ++i) large.positions.push_back(i);
  large.token_begin = {0, 17};
  large.context_lens = {17};
  large.block_tables = {{0, 1}};
  const absl::Status status = model->Forward(large, &result);
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("a batch of 17 tokens"));
  ForwardBatch wide;
  wide.token_ids = {1};
  wide.positions = {0};
  wide.kv_slots = {0};
  wide.null_bias = {0.0f};
  wide.max_experts = {0};
  wide.token_begin = {0, 1};
  wide.context_lens = {1};
  wide.block_tables = {std::vector<int32_t>(5000, 0)};
  EXPECT_THAT(std::string(model->Forward(wide, &result).message()), HasSubstr("a block table of"));
  wide.block_tables = {{0}};
  wide.logit_rows = {0, 0};
  EXPECT_THAT(std::string(model->Forward(wide, &result).message()), HasSubstr("2 rows of logits"));
  EXPECT_FALSE(model->lost());
  // And goes on.
  RunAlone(model.get(), SeededTokens(9, 1, 300), {1, 2});
}

}  // namespace
}  // namespace adamoe
