// A Mixtral that got null experts is the same model where none is picked, and starts balanced.
#include "train/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "server/weights/checkpoint_files.h"
#include "tests/unit/train/tiny_corpus.h"
#include "train/losses.h"
#include "train/mixtral_reference.h"

namespace adamoe {
namespace {

ModelConfig BaseConfig() {
  ModelConfig config = TinyConfig();
  config.num_experts = 8;
  config.num_null_experts = 0;
  config.experts_per_token = 2;
  config.num_layers = 4;
  return config;
}

at::Tensor SomeTokens(const ModelConfig& config) {
  return (at::arange(8 * 60) * 37 % 101 % config.vocab_size).view({8, 60});
}

double LoadOf(const ReferenceModel& model) {
  const ReferenceOutput output =
      ReferenceForward(model.config, model.parameters, SomeTokens(model.config));
  return MeanLoad(output.routing, model.config.num_experts);
}

at::Tensor LogitsOf(const ReferenceModel& model) {
  return ReferenceForward(model.config, model.parameters, SomeTokens(model.config)).logits;
}

ReferenceModel Convert(const ReferenceModel& base, const NullExpertOptions& options) {
  const auto converted = AddNullExperts(base, options);
  EXPECT_TRUE(converted.ok()) << converted.status();
  return *converted;
}

TEST(AddNullExpertsTest, RowsAreTiledCopiesWithNoiseOfTheirOwnScale) {
  const ReferenceModel base = {BaseConfig(), LivelyParameters(BaseConfig(), 1)};
  const ReferenceModel converted =
      Convert(base, {.num_null_experts = 19, .experts_per_token = 4, .router_noise = 0.01});
  EXPECT_EQ(converted.config.num_null_experts, 19);
  EXPECT_EQ(converted.config.experts_per_token, 4);
  for (size_t i = 0; i < base.parameters.layers.size(); ++i) {
    const at::Tensor gate = base.parameters.layers[i].gate;
    const at::Tensor gate2 = converted.parameters.layers[i].gate2;
    ASSERT_EQ(gate2.size(0), 19);
    EXPECT_TRUE(converted.parameters.layers[i].gate.equal(gate));
    for (int64_t row = 0; row < 19; ++row) {
      const at::Tensor source = gate[row % 8];
      const double scale = source.square().mean().sqrt().item<double>();
      const double noise = (gate2[row] - source).square().mean().sqrt().item<double>();
      EXPECT_GT(noise, 0.005 * scale);
      EXPECT_LT(noise, 0.02 * scale);
    }
  }
}

TEST(AddNullExpertsTest, NullsOutOfReachChangeNothing) {
  ReferenceModel base = {BaseConfig(), LivelyParameters(BaseConfig(), 2)};
  // The first channel of the residual stream is 3 everywhere, and above 0 wherever routers read it.
  base.parameters.embed_tokens.select(1, 0).fill_(3);
  for (MixtralLayerParameters& layer : base.parameters.layers) {
    layer.o_proj[0].zero_();
    layer.w2.select(1, 0).zero_();
    layer.post_attn_norm[0] = 1;
  }
  ReferenceModel converted = Convert(base, {.num_null_experts = 8, .experts_per_token = 2});
  EXPECT_GT((LogitsOf(converted) - LogitsOf(base)).abs().max().item<double>(), 1e-2);
  for (MixtralLayerParameters& layer : converted.parameters.layers) {
    layer.gate2.select(1, 0).sub_(1000);
  }
  EXPECT_EQ(LoadOf(converted), 2);
  EXPECT_LT((LogitsOf(converted) - LogitsOf(base)).abs().max().item<double>(), 1e-5);
}

// With a null behind every expert and twice the picks, each pick of the base brings its null along.
TEST(AddNullExpertsTest, TwiceThePicksAmongPairsIsTheSameModel) {
  const ReferenceModel base = {BaseConfig(), LivelyParameters(BaseConfig(), 3)};
  const ReferenceModel converted =
      Convert(base, {.num_null_experts = 8, .experts_per_token = 4, .router_noise = 1e-6});
  EXPECT_EQ(LoadOf(converted), 2);
  EXPECT_LT((LogitsOf(converted) - LogitsOf(base)).abs().max().item<double>(), 1e-4);
}

TEST(AddNullExpertsTest, WithoutNoiseTiesGoToTheTrueExperts) {
  const ReferenceModel base = {BaseConfig(), LivelyParameters(BaseConfig(), 4)};
  const ReferenceModel converted =
      Convert(base, {.num_null_experts = 8, .experts_per_token = 3, .router_noise = 0});
  EXPECT_NEAR(LoadOf(converted), 2.0, 0.02);
}

TEST(AddNullExpertsTest, OnlyPicksCanChangeToo) {
  const ReferenceModel base = {BaseConfig(), LivelyParameters(BaseConfig(), 5)};
  const ReferenceModel converted = Convert(base, {.experts_per_token = 1});
  EXPECT_EQ(converted.config.num_null_experts, 0);
  EXPECT_EQ(LoadOf(converted), 1);
}

TEST(AddNullExpertsTest, ErrorsNameTheOption) {
  ReferenceModel base = {BaseConfig(), RandomParameters(BaseConfig(), 6)};
  const auto message = [&base](const NullExpertOptions& options) {
    const auto converted = AddNullExperts(base, options);
    EXPECT_EQ(converted.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(converted.status().message());
  };
  EXPECT_THAT(message({.num_null_experts = 8, .experts_per_token = 17}),
              testing::HasSubstr("experts_per_token 17: expected 1 to 16"));
  EXPECT_THAT(message({.num_null_experts = 8}), testing::HasSubstr("experts_per_token 0"));
  EXPECT_THAT(message({.num_null_experts = -1, .experts_per_token = 2}),
              testing::HasSubstr("num_null_experts -1"));
  EXPECT_THAT(message({.num_null_experts = 8, .experts_per_token = 2, .router_noise = -1}),
              testing::HasSubstr("router_noise"));
  base.config.num_null_experts = 3;
  EXPECT_THAT(message({.num_null_experts = 8, .experts_per_token = 2}),
              testing::HasSubstr("3 null experts already"));
}

class ConvertFolderTest : public testing::Test {
 protected:
  ConvertFolderTest() { WriteTinyModel(BaseConfig(), folder_.File("base"), at::kBFloat16); }

  const TestFolder folder_{"convert"};
};

TEST_F(ConvertFolderTest, WrittenModelStartsBalanced) {
  double load = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    ASSERT_TRUE(ConvertFolder(folder_.File("base"), folder_.File("out"),
                              {.num_null_experts = 8, .experts_per_token = 3, .seed = seed})
                    .ok());
    const auto model = LoadModelFolder(folder_.File("out"));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->config.num_null_experts, 8);
    EXPECT_EQ(model->config.experts_per_token, 3);
    load += LoadOf(*model) / 4;
  }
  EXPECT_NEAR(load, 1.5, 0.15);
}

TEST_F(ConvertFolderTest, EverythingElseStaysAsItIs) {
  const std::string config_path = folder_.File("base/config.json");
  nlohmann::json config = nlohmann::json::parse(*ReadTextFile(config_path));
  config["router_aux_loss_coef"] = 0.02;
  ASSERT_TRUE(WriteFileAtomically(config_path, config.dump()).ok());
  ASSERT_TRUE(ConvertFolder(folder_.File("base"), folder_.File("out"),
                            {.num_null_experts = 4, .experts_per_token = 3})
                  .ok());
  const auto before = CheckpointFiles::OpenFolder(folder_.File("base"));
  const auto after = CheckpointFiles::OpenFolder(folder_.File("out"));
  ASSERT_TRUE(before.ok() && after.ok());
  for (const std::string& name : (*before)->Names()) {
    const TensorView left = *(*before)->Find(name);
    const auto right = (*after)->Find(name, left.shape);
    ASSERT_TRUE(right.ok()) << right.status();
    ASSERT_EQ(right->dtype, DType::kBFloat16) << name;
    EXPECT_EQ(std::memcmp(left.data, right->data, 2 * left.num_elements()), 0) << name;
  }
  EXPECT_EQ((*after)->Names().size(), (*before)->Names().size() + 4);
  EXPECT_EQ((*after)->Find("model.layers.0.block_sparse_moe.gate2.weight")->dtype, DType::kFloat32);
  config["num_experts_per_tok"] = 3;
  EXPECT_EQ(nlohmann::json::parse(*ReadTextFile(folder_.File("out/config.json"))), config);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    EXPECT_EQ(*ReadTextFile(folder_.File(absl::StrCat("out/", name))),
              *ReadTextFile(folder_.File(absl::StrCat("base/", name))))
        << name;
  }
}

TEST_F(ConvertFolderTest, RefusesItsOwnFolderAndASecondConversion) {
  const NullExpertOptions options = {.num_null_experts = 8, .experts_per_token = 3};
  const absl::Status same = ConvertFolder(folder_.File("base"), folder_.File("base/."), options);
  EXPECT_THAT(std::string(same.message()), testing::HasSubstr("own folder"));
  ASSERT_TRUE(ConvertFolder(folder_.File("base"), folder_.File("out"), options).ok());
  const absl::Status twice = ConvertFolder(folder_.File("out"), folder_.File("more"), options);
  EXPECT_THAT(std::string(twice.message()), testing::HasSubstr("8 null experts already"));
}

}  // namespace
}  // namespace adamoe
