// What the CUDA model does when the device fails: on a device of host memory, with planted faults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/cuda/cuda_model.h"
#include "server/cuda/gpu_staging.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/host_gpu.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe::cuda {
namespace {

using testing::HasSubstr;

class FaultsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteCheckpoint(CheckpointOptions(), folder_ / "model").ok());
    auto weights = LoadMixtral({.model_dir = folder_ / "model"});
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
  }

  absl::StatusOr<std::unique_ptr<CudaModel>> Make(int64_t kv_cache_tokens = 256) {
    const auto fill = [this](Gpu& gpu, std::byte* memory) {
      return UploadToGpu(weights_, gpu, memory);
    };
    return CudaModel::Create(MakeHostGpu(&control_), weights_.config, fill,
                             {.kv_cache_tokens = kv_cache_tokens, .max_batch_tokens = 64});
  }

  // One token of one sequence, at `position` of block 0.
  static ForwardBatch Decode(int32_t position) {
    ForwardBatch batch;
    batch.token_ids = {5};
    batch.positions = {position};
    batch.kv_slots = {position};
    batch.null_bias = {0.0f};
    batch.max_experts = {0};
    batch.token_begin = {0, 1};
    batch.context_lens = {position + 1};
    batch.block_tables = {{0}};
    batch.logit_rows = {0};
    return batch;
  }

  TempFolder folder_;
  MixtralWeights weights_;
  HostGpuControl control_;
  ForwardResult result_;
};

TEST_F(FaultsTest, StagingBuffersAreGivenBack) {
  auto model = Make();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(control_.num_pinned, 3) << "inputs, counts and logits";
  model->reset();
  EXPECT_EQ(control_.num_pinned, 0);
}

TEST_F(FaultsTest, TheCacheTakesWhatIsLeft) {
  control_.free_bytes = int64_t{3} << 30;
  auto model = Make(/*kv_cache_tokens=*/0);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelDimensions& dimensions = (*model)->dimensions();
  EXPECT_EQ(int64_t{dimensions.num_kv_blocks} * dimensions.kv_block_size,
            int64_t{2} * 64 * weights_.config.max_position_embeddings)
      << "two contexts for each sequence";
  EXPECT_LE(control_.allocated_bytes, (int64_t{2} << 30));
}

TEST_F(FaultsTest, TooLittleMemoryIsSaid) {
  control_.free_bytes = 1 << 20;
  const absl::Status status = Make().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("for a step (--max_batch_tokens)"));
}

TEST_F(FaultsTest, AFailedUploadFailsTheModel) {
  control_.fail_synchronize = 0;
  EXPECT_THAT(std::string(Make().status().message()), HasSubstr("planted"));
  EXPECT_EQ(control_.num_pinned, 0);
}

TEST_F(FaultsTest, AnErrorThatPassesFailsOneStep) {
  auto model = *Make();
  ASSERT_TRUE(model->Forward(Decode(0), &result_).ok());
  control_.fail_synchronize = control_.num_synchronizes;
  const absl::Status status = model->Forward(Decode(1), &result_);
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("cudaStreamSynchronize: planted"));
  EXPECT_FALSE(model->lost());
  EXPECT_TRUE(model->Forward(Decode(1), &result_).ok());
}

TEST_F(FaultsTest, AnErrorThatLastsLosesTheModel) {
  auto model = *Make();
  control_.fail_synchronize = control_.num_synchronizes;
  control_.sticky = true;
  EXPECT_FALSE(model->Forward(Decode(0), &result_).ok());
  EXPECT_TRUE(model->lost());
  const int before = control_.num_synchronizes;
  const absl::Status later = model->Forward(Decode(0), &result_);
  EXPECT_THAT(std::string(later.message()),
              HasSubstr("lost before: cudaStreamSynchronize: planted"));
  EXPECT_EQ(control_.num_synchronizes, before) << "the device is not asked again";
}

TEST_F(FaultsTest, AStepThatCannotBeRecordedRunsWithoutAGraph) {
  control_.fail_capture = true;
  auto model = *Make();
  for (int32_t i = 0; i < 4; ++i) ASSERT_TRUE(model->Forward(Decode(i), &result_).ok());
  EXPECT_EQ(model->num_graphs(), 0);
  EXPECT_EQ(control_.num_launches, 0);
}

TEST_F(FaultsTest, TheFirstStepOfASizeRunsWithoutAGraph) {
  auto model = *Make();
  for (int32_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(model->Forward(Decode(i), &result_).ok());
    EXPECT_EQ(control_.num_launches, i);
  }
  EXPECT_EQ(model->num_graphs(), 1);
}

}  // namespace
}  // namespace adamoe::cuda
