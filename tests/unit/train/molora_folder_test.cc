#include "train/molora_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/unit/train/tiny_molora.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

TEST(MoLoraFolderTest, ComesBackWhole) {
  const ModelConfig base = DenseConfig();
  const MoLora molora = LivelyMoLora(base, SmallConfig(), 20);
  const TestFolder folder("adapter");
  ASSERT_TRUE(WriteMoLora(folder.path(), "somewhere", molora).ok());
  EXPECT_TRUE(IsMoLora(folder.path()));
  EXPECT_FALSE(IsMoLora(folder.File("none")));
  const auto read = ReadMoLora(folder.path(), base);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config, molora.config);
  const NamedTensors left = MoLoraTensors(molora);
  const NamedTensors right = MoLoraTensors(*read);
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(left[i].second.equal(right[i].second)) << left[i].first;
  }
}

class BrokenMoLoraTest : public testing::Test {
 protected:
  BrokenMoLoraTest() {
    EXPECT_TRUE(WriteMoLora(folder_.path(), "base", molora_).ok());
    const auto text = ReadTextFile(folder_.File("adapter_config.json"));
    EXPECT_TRUE(text.ok()) << text.status();
    config_ = nlohmann::json::parse(*text);
  }

  std::string Message() const {
    return std::string(ReadMoLora(folder_.path(), DenseConfig()).status().message());
  }
  std::string MessageWith(const char* key, const nlohmann::json& value) const {
    nlohmann::json config = config_;
    config[key] = value;
    EXPECT_TRUE(WriteFileAtomically(folder_.File("adapter_config.json"), config.dump()).ok());
    return Message();
  }
  std::string MessageOf(const NamedTensors& tensors) const {
    EXPECT_TRUE(WriteSafetensors(folder_.File("adapter_model.safetensors"), tensors).ok());
    return Message();
  }

  const TestFolder folder_{"broken_adapter"};
  const MoLora molora_ = RandomMoLora(DenseConfig(), SmallConfig(), 21);
  nlohmann::json config_;
};

TEST_F(BrokenMoLoraTest, ConfigErrorsNameFileAndKey) {
  const auto error = [](const char* key) {
    return testing::AllOf(HasSubstr("adapter_config.json: "), HasSubstr(key));
  };
  EXPECT_THAT(MessageWith("peft_type", "LORA"), error("peft_type"));
  EXPECT_THAT(MessageWith("num_experts", 0), error("num_experts is 0"));
  EXPECT_THAT(MessageWith("num_experts", "4"), error("num_experts"));
  EXPECT_THAT(MessageWith("num_null_experts", -1), error("num_null_experts"));
  EXPECT_THAT(MessageWith("num_null_experts", 1 << 30), error("num_null_experts"));
  EXPECT_THAT(MessageWith("experts_per_token", 8), error("experts_per_token is 8"));
  EXPECT_THAT(MessageWith("r", 0), error("r is 0"));
  EXPECT_THAT(MessageWith("lora_alpha", -2), error("lora_alpha"));
  EXPECT_THAT(MessageWith("target_modules", {"q_proj"}), error("target_modules"));
  EXPECT_THAT(MessageWith("target_modules", {1, 2, 3, 4, 5, 6, 7}), error("target_modules"));
  EXPECT_THAT(MessageWith("r", 3), HasSubstr("self_attn.q_proj.molora_A.weight"));
}

TEST_F(BrokenMoLoraTest, TensorErrorsNameFileAndTensor) {
  NamedTensors tensors = MoLoraTensors(molora_);
  const std::string name = tensors[1].first;
  const auto error = [](const std::string& tensor) {
    return testing::AllOf(HasSubstr("adapter_model.safetensors: "), HasSubstr(tensor));
  };
  NamedTensors fewer = tensors;
  fewer.erase(fewer.begin() + 1);
  EXPECT_THAT(MessageOf(fewer), HasSubstr(name));
  NamedTensors reshaped = tensors;
  reshaped[1].second = at::zeros({4, 20, 2});
  EXPECT_THAT(MessageOf(reshaped), error(name));
  NamedTensors more = tensors;
  more.emplace_back(MoLoraTensorPrefix(2, kQTarget) + "A.weight", at::zeros({4, 2, 20}));
  EXPECT_THAT(MessageOf(more), error("layers.2.self_attn.q_proj"));
  std::ofstream(folder_.File("adapter_model.safetensors")) << "not tensors";
  EXPECT_THAT(Message(), HasSubstr("adapter_model.safetensors"));
  std::filesystem::remove(folder_.File("adapter_model.safetensors"));
  EXPECT_THAT(Message(), HasSubstr("adapter_model.safetensors"));
}

}  // namespace
}  // namespace adamoe
