// What train/ writes is what server/weights reads.
#include "train/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "server/weights/safetensors.h"
#include "tests/unit/train/tiny_model.h"
#include "train/training_state.h"

namespace adamoe {
namespace {

void ExpectEqual(MixtralParameters a, MixtralParameters b) {
  const std::vector<at::Tensor*> left = AllTensors(&a);
  const std::vector<at::Tensor*> right = AllTensors(&b);
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) EXPECT_TRUE(left[i]->equal(*right[i])) << i;
}

TEST(WriteModelFolderTest, LoadMixtralReadsItBack) {
  for (const int32_t num_null_experts : {3, 0}) {
    for (const bool tied : {false, true}) {
      ModelConfig config = TinyConfig();
      config.num_null_experts = num_null_experts;
      config.tie_word_embeddings = tied;
      config.sliding_window = tied ? 9 : 0;
      const MixtralParameters parameters = LivelyParameters(config, 2);
      const TestFolder folder("round_trip");
      ASSERT_TRUE(WriteModelFolder(folder.path(), config, parameters, at::kFloat).ok());
      const auto model = LoadModelFolder(folder.path());
      ASSERT_TRUE(model.ok()) << model.status();
      ExpectEqual(parameters, model->parameters);
      EXPECT_EQ(model->config.num_null_experts, num_null_experts);
      EXPECT_EQ(model->config.experts_per_token, config.experts_per_token);
      EXPECT_EQ(model->config.head_dim, config.head_dim);
      EXPECT_EQ(model->config.sliding_window, config.sliding_window);
      EXPECT_EQ(model->config.tie_word_embeddings, tied);
      EXPECT_EQ(model->config.bos_token_id, 1);
      EXPECT_THAT(model->config.eos_token_ids, testing::ElementsAre(2));
    }
  }
}

TEST(WriteModelFolderTest, BFloat16RoundsToTheNearest) {
  const ModelConfig config = TinyConfig();
  MixtralParameters parameters = LivelyParameters(config, 3);
  const TestFolder folder("bfloat16");
  ASSERT_TRUE(WriteModelFolder(folder.path(), config, parameters, at::kBFloat16).ok());
  const auto model = LoadModelFolder(folder.path());
  ASSERT_TRUE(model.ok()) << model.status();
  for (at::Tensor* tensor : AllTensors(&parameters)) {
    *tensor = tensor->to(at::kBFloat16).to(at::kFloat);
  }
  ExpectEqual(parameters, model->parameters);
}

TEST(WriteSafetensorsTest, EveryTypeComesBackAndStridedTensorsAreLaidOut) {
  const TestFolder folder("types");
  const at::Tensor matrix = at::arange(6, at::kFloat).view({2, 3});
  const NamedTensors tensors = {{"f32", matrix.t()},
                                {"bf16", matrix.to(at::kBFloat16)},
                                {"f16", matrix.to(at::kHalf)},
                                {"empty", at::empty({0, 4})}};
  ASSERT_TRUE(WriteSafetensors(folder.File("x.safetensors"), tensors).ok());
  const auto file = SafetensorsFile::Open(folder.File("x.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto& entries = (*file)->entries();
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_THAT(entries.at("f32").shape, testing::ElementsAre(3, 2));
  const float* transposed = static_cast<const float*>(entries.at("f32").data);
  EXPECT_THAT(std::vector<float>(transposed, transposed + 6),
              testing::ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_EQ(entries.at("bf16").dtype, DType::kBFloat16);
  EXPECT_EQ(entries.at("f16").dtype, DType::kFloat16);
  uint16_t last;
  std::memcpy(&last, static_cast<const char*>(entries.at("bf16").data) + 10, sizeof(last));
  EXPECT_EQ(FloatFromBf16(last), 5.0f);
}

TEST(WriteSafetensorsTest, RefusesOtherTypesAndRepeatedNamesAndLeavesNoFile) {
  const TestFolder folder("refused");
  const std::string path = folder.File("x.safetensors");
  const absl::Status type = WriteSafetensors(path, {{"ids", at::zeros({2}, at::kLong)}});
  EXPECT_EQ(type.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(type.message()), testing::HasSubstr("ids"));
  const absl::Status twice = WriteSafetensors(path, {{"a", at::zeros({2})}, {"a", at::zeros({2})}});
  EXPECT_EQ(twice.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_EQ(WriteSafetensors(folder.File("no/x"), {}).code(), absl::StatusCode::kInternal);
}

NamedTensors Named(MixtralParameters parameters) {
  NamedTensors named;
  for (const at::Tensor* tensor : AllTensors(&parameters)) {
    named.emplace_back(absl::StrCat(named.size()), *tensor);
  }
  return named;
}

TEST(TrainingStateTest, ComesBackWholeAndOnlyForItsShape) {
  ModelConfig config = TinyConfig();
  MixtralParameters saved = LivelyParameters(config, 4);
  const auto handles = [](MixtralParameters* parameters) {
    std::vector<at::Tensor> tensors;
    for (const at::Tensor* tensor : AllTensors(parameters)) tensors.push_back(*tensor);
    return tensors;
  };
  AdamW optimizer(handles(&saved), {});
  optimizer.Begin();
  for (size_t i = 0; i < handles(&saved).size(); ++i) {
    optimizer.Update(i, at::ones_like(handles(&saved)[i]), 0.01);
  }
  const TestFolder folder("state");
  ASSERT_TRUE(SaveTrainingState(folder.path(), {1, 32, 800, 2.5}, Named(saved), optimizer).ok());

  MixtralParameters loaded = RandomParameters(config, 5);
  AdamW fresh(handles(&loaded), {});
  const auto progress = LoadTrainingState(folder.path(), Named(loaded), &fresh);
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_EQ(progress->num_rows, 32);
  EXPECT_EQ(progress->seconds, 2.5);
  EXPECT_EQ(fresh.num_steps(), 1);
  ExpectEqual(saved, loaded);
  for (size_t i = 0; i < fresh.first_moments().size(); ++i) {
    EXPECT_TRUE(fresh.first_moments()[i].equal(optimizer.first_moments()[i]));
    EXPECT_TRUE(fresh.second_moments()[i].equal(optimizer.second_moments()[i]));
  }

  config.intermediate_size += 1;
  MixtralParameters other = RandomParameters(config, 5);
  AdamW other_optimizer(handles(&other), {});
  EXPECT_EQ(LoadTrainingState(folder.path(), Named(other), &other_optimizer).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace adamoe
