#include "server/cuda/weight_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe::cuda {
namespace {

struct Loaded {
  TempFolder folder;
  MixtralWeights weights;
};

std::unique_ptr<Loaded> Load(const CheckpointOptions& options) {
  auto loaded = std::make_unique<Loaded>();
  EXPECT_TRUE(WriteCheckpoint(options, loaded->folder / "model").ok());
  auto weights = LoadMixtral({.model_dir = loaded->folder / "model"});
  EXPECT_TRUE(weights.ok()) << weights.status();
  loaded->weights = *std::move(weights);
  return loaded;
}

int64_t NumBytes(const WeightCopy& copy) {
  return copy.source->num_elements() * static_cast<int64_t>(SizeOf(copy.dtype));
}

void ExpectEveryTensorHasItsPlace(const CheckpointOptions& options) {
  const auto loaded = Load(options);
  const ModelConfig& config = loaded->weights.config;
  const WeightLayout layout = LayOutWeights(config);
  std::vector<WeightCopy> copies = WeightCopies(loaded->weights, layout);
  const size_t per_layer = 2 + 4 + 1 + (config.num_null_experts > 0) + 3 * config.num_experts;
  EXPECT_EQ(copies.size(),
            2 + (config.tie_word_embeddings ? 0 : 1) + config.num_layers * per_layer);
  std::set<const TensorView*> sources;
  for (const WeightCopy& copy : copies) EXPECT_TRUE(sources.insert(copy.source).second);
  std::sort(copies.begin(), copies.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  int64_t end = 0;
  for (const WeightCopy& copy : copies) {
    EXPECT_GE(copy.offset, end) << "two tensors overlap";
    end = copy.offset + NumBytes(copy);
  }
  EXPECT_LE(end, layout.num_bytes);
}

TEST(WeightLayoutTest, EveryTensorHasItsPlace) {
  CheckpointOptions options;
  ExpectEveryTensorHasItsPlace(options);
  options.config.num_null_experts = 0;
  options.config.tie_word_embeddings = true;
  ExpectEveryTensorHasItsPlace(options);
}

TEST(WeightLayoutTest, MatricesThatOneProductReadsAreStacked) {
  const auto loaded = Load(CheckpointOptions());
  const WeightLayout layout = LayOutWeights(loaded->weights.config);
  const auto copies = WeightCopies(loaded->weights, layout);
  const auto copy_of = [&copies](const TensorView& tensor) {
    return *std::find_if(copies.begin(), copies.end(),
                         [&tensor](const WeightCopy& copy) { return copy.source == &tensor; });
  };
  const auto follows = [&copy_of](const TensorView& first, const TensorView& second) {
    const WeightCopy copy = copy_of(first);
    return copy.offset + NumBytes(copy) == copy_of(second).offset;
  };
  for (size_t i = 0; i < loaded->weights.layers.size(); ++i) {
    const MixtralLayerWeights& layer = loaded->weights.layers[i];
    EXPECT_EQ(copy_of(layer.q_proj).offset, layout.layers[i].qkv_proj);
    EXPECT_TRUE(follows(layer.q_proj, layer.k_proj));
    EXPECT_TRUE(follows(layer.k_proj, layer.v_proj));
    EXPECT_TRUE(follows(layer.gate, layer.gate2));
    for (size_t e = 1; e < layer.experts.size(); ++e) {
      EXPECT_TRUE(follows(layer.experts[e - 1].w1, layer.experts[e].w1));
      EXPECT_TRUE(follows(layer.experts[e - 1].w2, layer.experts[e].w2));
      EXPECT_TRUE(follows(layer.experts[e - 1].w3, layer.experts[e].w3));
    }
    EXPECT_EQ(copy_of(layer.gate).dtype, DType::kFloat32) << "picks are discrete";
    EXPECT_EQ(copy_of(layer.input_norm).dtype, DType::kFloat32);
    EXPECT_EQ(copy_of(layer.experts[0].w1).dtype, DType::kBFloat16);
  }
}

TEST(WeightLayoutTest, TiedEmbeddingsAreThereOnce) {
  CheckpointOptions options;
  const int64_t untied = LayOutWeights(options.config).num_bytes;
  options.config.tie_word_embeddings = true;
  const WeightLayout tied = LayOutWeights(options.config);
  EXPECT_EQ(tied.lm_head, tied.embed_tokens);
  EXPECT_LT(tied.num_bytes, untied);
}

}  // namespace
}  // namespace adamoe::cuda
