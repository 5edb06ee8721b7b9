#include "server/weights/tensor_table.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/checkpoint_writer.h"

namespace adamoe {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes ShapesOf(const ModelConfig& config) {
  Shapes shapes;
  for (const TensorSpec& spec : MixtralTensors(config)) {
    EXPECT_TRUE(shapes.emplace(spec.name, spec.shape).second) << spec.name;
  }
  return shapes;
}

ModelConfig OneLayer() {
  ModelConfig config = SmallConfig();
  config.num_layers = 1;
  config.num_experts = 2;
  config.num_null_experts = 3;
  return config;
}

TEST(TensorTableTest, HoldsHuggingFacesNamesAndShapes) {
  const Shapes expected = {
      {"model.embed_tokens.weight", {300, 32}},
      {"model.layers.0.input_layernorm.weight", {32}},
      {"model.layers.0.post_attention_layernorm.weight", {32}},
      {"model.layers.0.self_attn.q_proj.weight", {32, 32}},
      {"model.layers.0.self_attn.k_proj.weight", {16, 32}},
      {"model.layers.0.self_attn.v_proj.weight", {16, 32}},
      {"model.layers.0.self_attn.o_proj.weight", {32, 32}},
      {"model.layers.0.block_sparse_moe.gate.weight", {2, 32}},
      {"model.layers.0.block_sparse_moe.gate2.weight", {3, 32}},
      {"model.layers.0.block_sparse_moe.experts.0.w1.weight", {48, 32}},
      {"model.layers.0.block_sparse_moe.experts.0.w2.weight", {32, 48}},
      {"model.layers.0.block_sparse_moe.experts.0.w3.weight", {48, 32}},
      {"model.layers.0.block_sparse_moe.experts.1.w1.weight", {48, 32}},
      {"model.layers.0.block_sparse_moe.experts.1.w2.weight", {32, 48}},
      {"model.layers.0.block_sparse_moe.experts.1.w3.weight", {48, 32}},
      {"model.norm.weight", {32}},
      {"lm_head.weight", {300, 32}},
  };
  EXPECT_EQ(ShapesOf(OneLayer()), expected);
}

TEST(TensorTableTest, HeadDimIsItsOwn) {
  ModelConfig config = OneLayer();
  config.head_dim = 10;
  const Shapes shapes = ShapesOf(config);
  EXPECT_THAT(shapes.at("model.layers.0.self_attn.q_proj.weight"), testing::ElementsAre(40, 32));
  EXPECT_THAT(shapes.at("model.layers.0.self_attn.k_proj.weight"), testing::ElementsAre(20, 32));
  EXPECT_THAT(shapes.at("model.layers.0.self_attn.o_proj.weight"), testing::ElementsAre(32, 40));
}

TEST(TensorTableTest, PlainAndTiedModelsHaveFewer) {
  ModelConfig config = OneLayer();
  config.num_null_experts = 0;
  config.tie_word_embeddings = true;
  config.num_layers = 12;
  const Shapes shapes = ShapesOf(config);
  EXPECT_EQ(shapes.size(), 1u + 12 * (7 + 2 * 3) + 1);
  EXPECT_EQ(shapes.count("lm_head.weight"), 0u);
  EXPECT_EQ(shapes.count("model.layers.3.block_sparse_moe.gate2.weight"), 0u);
  EXPECT_EQ(shapes.count("model.layers.11.self_attn.v_proj.weight"), 1u);
}

TEST(TensorTableTest, OnlyRotaryFrequenciesAreDerived) {
  EXPECT_TRUE(IsDerivedTensor("model.layers.7.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(IsDerivedTensor("model.layers.7.self_attn.q_proj.bias"));
}

}  // namespace
}  // namespace adamoe
