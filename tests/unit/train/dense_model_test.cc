#include "train/dense_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/unit/train/tiny_molora.h"
#include "train/model_folder.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

NamedTensors LlamaTensors(const ReferenceModel& model) {
  NamedTensors tensors;
  for (auto& [name, tensor] : HuggingFaceTensors(model.parameters, at::kFloat)) {
    const size_t begin = name.find("block_sparse_moe.");
    if (begin == std::string::npos) {
      tensors.emplace_back(name, tensor);
      continue;
    }
    for (const auto& [from, to] : {std::pair("w1", "gate"), {"w2", "down"}, {"w3", "up"}}) {
      if (name.substr(begin) != absl::StrCat("block_sparse_moe.experts.0.", from, ".weight")) {
        continue;
      }
      tensors.emplace_back(absl::StrCat(name.substr(0, begin), "mlp.", to, "_proj.weight"), tensor);
    }
  }
  return tensors;
}

nlohmann::json LlamaConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 20},
          {"intermediate_size", 13},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 6},
          {"vocab_size", 37},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"}};
}

void WriteLlama(const TestFolder& folder, const nlohmann::json& config,
                const NamedTensors& tensors) {
  ASSERT_TRUE(WriteFileAtomically(folder.File("config.json"), config.dump()).ok());
  ASSERT_TRUE(WriteSafetensors(folder.File("model.safetensors"), tensors).ok());
}

TEST(DenseModelTest, LlamaFolderEqualsTheMixtralFolderOfTheSameWeights) {
  const ReferenceModel model = DenseModel(17);
  const TestFolder mixtral("mixtral");
  ASSERT_TRUE(WriteModelFolder(mixtral.path(), model.config, model.parameters, at::kFloat).ok());
  const TestFolder llama("llama");
  WriteLlama(llama, LlamaConfig(), LlamaTensors(model));
  const auto from_mixtral = LoadDenseModel(mixtral.path());
  const auto from_llama = LoadDenseModel(llama.path());
  ASSERT_TRUE(from_mixtral.ok()) << from_mixtral.status();
  ASSERT_TRUE(from_llama.ok()) << from_llama.status();
  EXPECT_EQ(from_llama->config.rope_theta, from_mixtral->config.rope_theta);
  EXPECT_EQ(from_llama->config.rms_norm_eps, from_mixtral->config.rms_norm_eps);
  EXPECT_EQ(from_llama->config.num_experts, 1);
  const at::Tensor ids = Ids(1, 9, 18);
  const auto logits = [&ids](const ReferenceModel& read) {
    return ReferenceForward(read.config, read.parameters, ids).logits;
  };
  EXPECT_TRUE(logits(*from_llama).equal(logits(*from_mixtral)));
}

TEST(DenseModelTest, LlamasDefaultsAreItsOwn) {
  nlohmann::json json = LlamaConfig();
  for (const char* key : {"num_key_value_heads", "rms_norm_eps", "head_dim"}) json.erase(key);
  json["sliding_window"] = 7;  // says nothing in a Llama
  const auto config = ParseLlamaConfig(json.dump(), "f");
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("head_dim"));  // 20 / 4 is odd
  json["head_dim"] = 4;
  const auto mended = ParseLlamaConfig(json.dump(), "f");
  ASSERT_TRUE(mended.ok()) << mended.status();
  EXPECT_EQ(mended->num_kv_heads, 4);
  EXPECT_EQ(mended->rope_theta, 1e4f);
  EXPECT_EQ(mended->rms_norm_eps, 1e-6f);
  EXPECT_EQ(mended->sliding_window, 0);
}

TEST(DenseModelTest, ErrorsNameFileAndWhatIsWrong) {
  const NamedTensors tensors = LlamaTensors(DenseModel(19));
  const auto message = [](const nlohmann::json& config, const NamedTensors& written) {
    const TestFolder folder("broken_llama");
    WriteLlama(folder, config, written);
    return std::string(LoadDenseModel(folder.path()).status().message());
  };
  const auto with = [](const char* key, const nlohmann::json& value) {
    nlohmann::json config = LlamaConfig();
    config[key] = value;
    return config;
  };
  const auto config_error = [](const char* key) {
    return testing::AllOf(HasSubstr("config.json: "), HasSubstr(key));
  };
  EXPECT_THAT(message(with("model_type", "gpt2"), tensors), config_error("model_type"));
  EXPECT_THAT(message(with("architectures", {"X"}), tensors), config_error("architectures"));
  EXPECT_THAT(message(with("attention_bias", true), tensors), config_error("attention_bias"));
  EXPECT_THAT(message(with("hidden_act", "gelu"), tensors), config_error("hidden_act"));
  EXPECT_THAT(message(with("rope_scaling", {{"factor", 2}}), tensors),
              config_error("rope_scaling"));
  EXPECT_THAT(message(with("hidden_size", "20"), tensors), config_error("hidden_size"));
  EXPECT_THAT(message(with("num_hidden_layers", 3), tensors), HasSubstr("model.layers.2."));
  EXPECT_THAT(message(with("num_hidden_layers", 1), tensors), HasSubstr("model.layers.1."));
  EXPECT_THAT(
      message(with("intermediate_size", 12), tensors),
      testing::AllOf(HasSubstr("model.safetensors"), HasSubstr("layers.0.mlp.gate_proj.weight")));
  NamedTensors biased = tensors;
  biased.emplace_back("model.layers.0.self_attn.q_proj.bias", at::zeros({24}));
  EXPECT_THAT(message(LlamaConfig(), biased), HasSubstr("q_proj.bias"));
  const TestFolder moe("moe");
  ASSERT_TRUE(
      WriteModelFolder(moe.path(), TinyConfig(), LivelyParameters(TinyConfig(), 1), at::kFloat)
          .ok());
  EXPECT_THAT(std::string(LoadDenseModel(moe.path()).status().message()),
              HasSubstr("5 experts and 3 null experts, expected a dense model"));
  EXPECT_EQ(LoadDenseModel(moe.File("none")).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace adamoe
