// A recorded trace through the executor on the model under test: every answer is what the CPU's
// model says it should be.
#include "tests/gpu/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "server/weights/mixtral_weights.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/temp_folder.h"
#include "tests/gpu/backend.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

constexpr cuda::CudaModel::Options kModelOptions{
    .kv_cache_tokens = 2048, .block_size = 16, .max_batch_tokens = 96, .max_sequences = 16};

Executor::Options ExecutorOptions() {
  Executor::Options options;
  options.max_batch_tokens = kModelOptions.max_batch_tokens;
  options.max_running_requests = kModelOptions.max_sequences;
  return options;
}

class TraceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasGpu()) GTEST_SKIP() << "no GPU";
    CheckpointOptions options;
    options.config.num_layers = 3;
    ASSERT_TRUE(WriteCheckpoint(options, folder_ / "model").ok());
    auto weights = LoadMixtral({.model_dir = folder_ / "model"});
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
    auto trace = ReadTrace(ADAMOE_SOURCE_DIR "/tests/gpu/mixed.trace", weights_.config.vocab_size);
    ASSERT_TRUE(trace.ok()) << trace.status();
    trace_ = *std::move(trace);
  }

  TempFolder folder_;
  MixtralWeights weights_;
  std::vector<TraceRequest> trace_;
};

// What proves the driver: in float32 the CPU's answers do not depend on the batch, so here nothing
// is a tie and nothing may differ.
TEST_F(TraceTest, CpuAgainstCpuAgreesInEveryToken) {
  const auto model = MakeCpuModel(weights_, Precision::kFloat32, kModelOptions);
  const auto oracle = MakeCpuModel(weights_, Precision::kFloat32, kModelOptions);
  const auto run = RunTrace(trace_, ExecutorOptions(), model.get());
  ASSERT_TRUE(run.ok()) << run.status();
  const auto check = CheckTrace(trace_, *run, oracle.get(), 0.0);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_EQ(check->num_expert_differences, 0);
  EXPECT_EQ(check->num_other_choices, 0);
  EXPECT_GT(check->num_tokens, 500);
}

TEST_F(TraceTest, TheCheckSeesAWrongToken) {
  trace_.resize(6);
  const auto model = MakeCpuModel(weights_, Precision::kFloat32, kModelOptions);
  auto run = RunTrace(trace_, ExecutorOptions(), model.get());
  ASSERT_TRUE(run.ok()) << run.status();
  TraceAnswer& answer = run->answers[2];
  const size_t last = answer.ids.size() - 1;
  answer.ids[last] = (answer.ids[last] + 1) % weights_.config.vocab_size;
  ++answer.experts[last];
  auto check = CheckTrace(trace_, *run, model.get(), 0.0);
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_EQ(check->num_other_choices, 1);
  EXPECT_EQ(check->num_expert_differences, 1);
  answer.ids.pop_back();
  EXPECT_THAT(std::string(CheckTrace(trace_, *run, model.get(), 0.0).status().message()),
              HasSubstr("request 3"));
}

TEST_F(TraceTest, ALineThatCannotBeReadIsNamed) {
  const std::string path = folder_ / "bad.trace";
  std::ofstream(path) << "{\"prompt\": 3, \"max_tokens\": 2}\n{\"prompt\": 0}\n";
  EXPECT_THAT(std::string(ReadTrace(path, 300).status().message()), HasSubstr("bad.trace:2"));
  std::ofstream(path) << "[]\n";
  EXPECT_THAT(std::string(ReadTrace(path, 300).status().message()), HasSubstr("bad.trace:1"));
}

TEST_F(TraceTest, AnswersOfTheModelUnderTestAreTheCpus) {
  const auto oracle = MakeCpuModel(weights_, Precision::kBFloat16, kModelOptions);
  auto model = MakeGpuModel(weights_, kModelOptions);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto run = RunTrace(trace_, ExecutorOptions(), model->get());
  ASSERT_TRUE(run.ok()) << run.status();
  const auto check = CheckTrace(trace_, *run, oracle.get(), 0.02);
  ASSERT_TRUE(check.ok()) << check.status();
  std::printf("%d tokens in %zu steps, %d graphs: %d with other experts, %d other choices\n",
              static_cast<int>(check->num_tokens), run->record.steps.size(), (*model)->num_graphs(),
              static_cast<int>(check->num_expert_differences),
              static_cast<int>(check->num_other_choices));
  EXPECT_GT(check->num_tokens, 500);
  EXPECT_LE(check->num_expert_differences, check->num_tokens / 20);
  EXPECT_LE(check->num_other_choices, check->num_tokens / 100) << "where an expert was another";
  EXPECT_GT((*model)->num_graphs(), 0);
  EXPECT_EQ(run->record.load.num_free_blocks, run->record.load.num_blocks);
}

}  // namespace
}  // namespace adamoe
