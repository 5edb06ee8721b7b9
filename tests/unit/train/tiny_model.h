// Small random models and folders for the tests of train/.
#ifndef ADAMOE_TESTS_UNIT_TRAIN_TINY_MODEL_H_
#define ADAMOE_TESTS_UNIT_TRAIN_TINY_MODEL_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/weights/model_config.h"
#include "train/mixtral_parameters.h"

namespace adamoe {

// A folder of its own under testing::TempDir(), removed with everything in it at the end.
class TestFolder {
 public:
  explicit TestFolder(const std::string& name)
      : path_(absl::StrCat(testing::TempDir(), "/adamoe_train_", getpid(), "_", name)) {
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return absl::StrCat(path_, "/", name); }

 private:
  const std::string path_;
};

// Odd sizes, grouped heads, null experts, no window, untied.
inline ModelConfig TinyConfig() {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.hidden_size = 20;
  config.intermediate_size = 13;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.num_experts = 5;
  config.num_null_experts = 3;
  config.experts_per_token = 3;
  config.vocab_size = 37;
  config.max_position_embeddings = 64;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  return config;
}

// Random parameters of which every one matters: larger than a training starts from, with norms
// other than 1.
inline MixtralParameters LivelyParameters(const ModelConfig& config, uint64_t seed) {
  MixtralParameters parameters = RandomParameters(config, seed);
  for (at::Tensor* tensor : AllTensors(&parameters)) {
    if (tensor->dim() >= 2) tensor->mul_(12.0);
  }
  const auto shake = [](at::Tensor* norm, double step) {
    norm->add_(at::arange(norm->numel(), at::kFloat).sin_(), step);
  };
  shake(&parameters.norm, 0.3);
  for (MixtralLayerParameters& layer : parameters.layers) {
    shake(&layer.input_norm, 0.2);
    shake(&layer.post_attn_norm, -0.2);
  }
  return parameters;
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_TRAIN_TINY_MODEL_H_
