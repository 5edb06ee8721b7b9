// Adapters through LoadMixtral: what is merged is W + (lora_alpha / r) B A, checked in double.
#include "server/weights/adapter.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/safetensors.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/safetensors_writer.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

constexpr char kPrefix[] = "base_model.model.model.layers.";
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

std::vector<float> Values(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.num_elements()));
  CopyToFloat32(view, 0, view.num_elements(), values.data());
  return values;
}

// A base folder and an adapter folder, and the views of the adapter's file.
class AdapterTest : public testing::Test {
 protected:
  void Write(const CheckpointOptions& base, const AdapterOptions& adapter) {
    ASSERT_TRUE(WriteCheckpoint(base, folder_ / "base").ok());
    ASSERT_TRUE(WriteAdapter(adapter, folder_ / "adapter").ok());
    auto file = SafetensorsFile::Open(folder_ / "adapter/adapter_model.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    factors_ = *std::move(file);
  }

  absl::StatusOr<MixtralWeights> LoadBase() {
    return LoadMixtral({.model_dir = folder_ / "base", .experts_per_token = 2});
  }
  absl::StatusOr<MixtralWeights> LoadMerged() {
    return LoadMixtral({.model_dir = folder_ / "base",
                        .adapter_dir = folder_ / "adapter",
                        .experts_per_token = 2});
  }

  std::vector<float> Factor(const std::string& name) {
    const SafetensorsEntry& entry = factors_->entries().at(name);
    return Values({entry.data, entry.dtype, entry.shape});
  }

  // Checks merged = base + scale B A, where `target` is "0.block_sparse_moe.gate", and that it is
  // kept in float32.
  void ExpectMerged(const TensorView& merged, const std::vector<float>& base,
                    const std::string& target, double scale) {
    const std::vector<float> a = Factor(kPrefix + target + ".lora_A.weight");
    const std::vector<float> b = Factor(kPrefix + target + ".lora_B.weight");
    const int64_t rows = merged.shape[0];
    const int64_t cols = merged.shape[1];
    const int64_t rank = static_cast<int64_t>(a.size()) / cols;
    EXPECT_EQ(merged.dtype, DType::kFloat32) << target;
    const std::vector<float> got = Values(merged);
    ASSERT_EQ(got.size(), base.size()) << target;
    double largest_change = 0;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        double delta = 0;
        for (int64_t r = 0; r < rank; ++r) {
          delta += static_cast<double>(b[row * rank + r]) * a[r * cols + col];
        }
        const int64_t i = row * cols + col;
        ASSERT_NEAR(got[i], base[i] + scale * delta, 1e-5) << target << " " << row << " " << col;
        largest_change = std::max(largest_change, std::abs(scale * delta));
      }
    }
    EXPECT_GT(largest_change, 0.1) << target;
  }

  TempFolder folder_;
  std::unique_ptr<SafetensorsFile> factors_;
};

TEST_F(AdapterTest, MergesEveryTargetAndKeepsFloat32) {
  AdapterOptions adapter;
  adapter.targets = {"gate", "gate2", "w1", "w2", "w3", "q_proj", "k_proj", "v_proj", "o_proj"};
  adapter.rank = 3;
  adapter.lora_alpha = 4.5;
  Write({}, adapter);
  const auto base = LoadBase();
  const auto merged = LoadMerged();
  ASSERT_TRUE(base.ok()) << base.status();
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(merged->config.num_null_experts, 2);
  for (size_t i = 0; i < 2; ++i) {
    const MixtralLayerWeights& from = base->layers[i];
    const MixtralLayerWeights& to = merged->layers[i];
    const std::string moe = absl::StrCat(i, ".block_sparse_moe.");
    ExpectMerged(to.gate, Values(from.gate), moe + "gate", 1.5);
    ExpectMerged(to.gate2, Values(from.gate2), moe + "gate2", 1.5);
    const std::string attention = absl::StrCat(i, ".self_attn.");
    ExpectMerged(to.q_proj, Values(from.q_proj), attention + "q_proj", 1.5);
    ExpectMerged(to.k_proj, Values(from.k_proj), attention + "k_proj", 1.5);
    ExpectMerged(to.v_proj, Values(from.v_proj), attention + "v_proj", 1.5);
    ExpectMerged(to.o_proj, Values(from.o_proj), attention + "o_proj", 1.5);
    for (size_t j = 0; j < 4; ++j) {
      const std::string expert = absl::StrCat(moe, "experts.", j, ".");
      ExpectMerged(to.experts[j].w1, Values(from.experts[j].w1), expert + "w1", 1.5);
      ExpectMerged(to.experts[j].w2, Values(from.experts[j].w2), expert + "w2", 1.5);
      ExpectMerged(to.experts[j].w3, Values(from.experts[j].w3), expert + "w3", 1.5);
    }
    EXPECT_EQ(to.input_norm.dtype, DType::kBFloat16);
  }
  EXPECT_EQ(merged->layers[0].experts[0].w1.dtype, DType::kFloat32);
}

TEST_F(AdapterTest, LeavesWhatItDoesNotTarget) {
  AdapterOptions adapter;
  adapter.targets = {"w1"};
  adapter.dtype = DType::kBFloat16;
  Write({}, adapter);
  const auto base = LoadBase();
  const auto merged = LoadMerged();
  ASSERT_TRUE(base.ok() && merged.ok()) << merged.status();
  ExpectMerged(merged->layers[1].experts[2].w1, Values(base->layers[1].experts[2].w1),
               "1.block_sparse_moe.experts.2.w1", 2.0);
  EXPECT_EQ(merged->layers[1].experts[2].w2.dtype, DType::kBFloat16);
  EXPECT_EQ(Values(merged->layers[1].gate), Values(base->layers[1].gate));
  EXPECT_EQ(Values(merged->layers[1].gate2), Values(base->layers[1].gate2));
}

// Without a gate2 in the base, null row i starts as row i % n of the base's gate, the gate's own
// delta left out.
void ExpectTiled(const TensorView& gate, int32_t null_experts, std::vector<float>& tiled) {
  const std::vector<float> rows = Values(gate);
  const size_t hidden = static_cast<size_t>(gate.shape[1]);
  for (int32_t i = 0; i < null_experts; ++i) {
    const size_t row = static_cast<size_t>(i % gate.shape[0]);
    tiled.insert(tiled.end(), rows.begin() + static_cast<std::ptrdiff_t>(row * hidden),
                 rows.begin() + static_cast<std::ptrdiff_t>((row + 1) * hidden));
  }
}

TEST_F(AdapterTest, GateRowsAreTheBaseOfAGate2ThatIsNotThere) {
  for (const int32_t null_experts : {8, 6, 3}) {
    CheckpointOptions base;
    base.config.num_null_experts = 0;
    AdapterOptions adapter;
    adapter.config.num_null_experts = null_experts;
    Write(base, adapter);
    const auto plain = LoadBase();
    const auto merged = LoadMerged();
    ASSERT_TRUE(plain.ok() && merged.ok()) << merged.status();
    EXPECT_EQ(plain->config.num_null_experts, 0);
    EXPECT_EQ(merged->config.num_null_experts, null_experts);
    for (size_t i = 0; i < 2; ++i) {
      std::vector<float> tiled;
      ExpectTiled(plain->layers[i].gate, null_experts, tiled);
      ExpectMerged(merged->layers[i].gate2, tiled, absl::StrCat(i, ".block_sparse_moe.gate2"), 2.0);
      ExpectMerged(merged->layers[i].gate, Values(plain->layers[i].gate),
                   absl::StrCat(i, ".block_sparse_moe.gate"), 2.0);
    }
  }
}

TEST_F(AdapterTest, PicksAreCheckedAgainstTheAdaptersNullExperts) {
  CheckpointOptions base;
  base.config.num_null_experts = 0;
  AdapterOptions adapter;
  adapter.config.num_null_experts = 8;
  Write(base, adapter);
  LoadOptions options{.model_dir = folder_ / "base", .adapter_dir = folder_ / "adapter"};
  options.experts_per_token = 12;
  EXPECT_TRUE(LoadMixtral(options).ok());
  options.experts_per_token = 13;
  EXPECT_THAT(std::string(LoadMixtral(options).status().message()),
              HasSubstr("experts_per_token is 13, expected 1 to 12"));
}

TEST_F(AdapterTest, ReadsWhatPeftWrites) {
  Write({}, {});
  ASSERT_TRUE(WriteTextFile(folder_ / "adapter/adapter_config.json", R"({
      "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "x", "bias": "none",
      "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
      "layer_replication": null, "layers_pattern": null, "layers_to_transform": null,
      "loftq_config": {}, "lora_alpha": 8, "lora_dropout": 0.05, "megatron_config": null,
      "modules_to_save": null, "peft_type": "LORA", "r": 4, "rank_pattern": {}, "revision": null,
      "target_modules": ["w1", "w2", "w3", "gate", "gate2"], "task_type": "CAUSAL_LM",
      "use_dora": false, "use_rslora": false})")
                  .ok());
  const auto merged = LoadMerged();
  EXPECT_TRUE(merged.ok()) << merged.status();
}

struct HostileAdapter {
  std::string name;
  std::string config;  // of adapter_config.json, merged with r and lora_alpha unless it is whole
  std::vector<NewTensor> tensors;
  absl::StatusCode code;
  std::string file;
  std::string message;
};

NewTensor A(const std::string& target, int64_t rank, int64_t in) {
  return {kPrefix + target + ".lora_A.weight", DType::kFloat32, {rank, in}};
}
NewTensor B(const std::string& target, int64_t out, int64_t rank) {
  return {kPrefix + target + ".lora_B.weight", DType::kFloat32, {out, rank}};
}

std::vector<HostileAdapter> HostileAdapters() {
  const std::string plain = R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8})";
  const std::string gate = "0.block_sparse_moe.gate";
  const std::string gate2 = "0.block_sparse_moe.gate2";
  const std::vector<NewTensor> good = {A(gate, 4, 32), B(gate, 4, 4)};
  const auto config = [](const std::string& extra) {
    return R"({"r": 4, "lora_alpha": 8, )" + extra + "}";
  };
  const char* cfg = "adapter_config.json";
  const char* weights = "adapter_model.safetensors";
  return {
      {"ConfigIsList", "[]", good, kInvalid, cfg, "expected a JSON object"},
      {"ConfigIsBroken", "{", good, kInvalid, cfg, "not valid JSON"},
      {"OtherPeftType", config(R"("peft_type": "IA3")"), good, kInvalid, cfg,
       R"(peft_type is "IA3", expected "LORA")"},
      {"RsLora", config(R"("use_rslora": true)"), good, kInvalid, cfg,
       "use_rslora is true, expected false"},
      {"Dora", config(R"("use_dora": true)"), good, kInvalid, cfg, "use_dora is true"},
      {"QaLora", config(R"("use_qalora": true)"), good, kInvalid, cfg, "use_qalora is true"},
      {"LoraBias", config(R"("lora_bias": true)"), good, kInvalid, cfg, "lora_bias is true"},
      {"DoraIsText", config(R"("use_dora": "no")"), good, kInvalid, cfg, "use_dora is \"no\""},
      {"Bias", config(R"("bias": "all")"), good, kInvalid, cfg, "bias is \"all\""},
      {"RankPattern", config(R"("rank_pattern": {"gate": 2})"), good, kInvalid, cfg,
       "rank_pattern is an object, expected empty"},
      {"AlphaPattern", config(R"("alpha_pattern": {"gate": 2})"), good, kInvalid, cfg,
       "alpha_pattern is an object"},
      {"ModulesToSave", config(R"("modules_to_save": ["lm_head"])"), good, kInvalid, cfg,
       "modules_to_save is [\"lm_head\"]"},
      {"ChangedBase", config(R"("init_lora_weights": "pissa")"), good, kInvalid, cfg,
       "init_lora_weights is \"pissa\""},
      {"NoRank", R"({"lora_alpha": 8})", good, kInvalid, cfg, "r is absent"},
      {"RankZero", R"({"r": 0, "lora_alpha": 8})", good, kInvalid, cfg, "r is 0"},
      {"RankNegative", R"({"r": -4, "lora_alpha": 8})", good, kInvalid, cfg, "r is -4"},
      {"RankHuge", R"({"r": 4000000000, "lora_alpha": 8})", good, kInvalid, cfg, "r is 4000000000"},
      {"NoAlpha", R"({"r": 4})", good, kInvalid, cfg, "lora_alpha is absent"},
      {"AlphaZero", R"({"r": 4, "lora_alpha": 0})", good, kInvalid, cfg, "lora_alpha is 0"},
      {"OnlyA",
       plain,
       {A(gate, 4, 32)},
       kNotFound,
       weights,
       "gate.lora_B.weight\" is absent, expected with shape [4, 4]"},
      {"OnlyB",
       plain,
       {B(gate, 4, 4)},
       kNotFound,
       weights,
       "gate.lora_A.weight\" is absent, expected with shape [4, 32]"},
      {"OnlyAOfGate2",
       plain,
       {A(gate2, 4, 32)},
       kNotFound,
       weights,
       "gate2.lora_B.weight\" is absent"},
      {"OtherRank",
       plain,
       {A(gate, 8, 32), B(gate, 4, 8)},
       kInvalid,
       weights,
       "gate.lora_A.weight\" has shape [8, 32], expected [4, 32]"},
      {"OtherRankInB",
       plain,
       {A(gate, 4, 32), B(gate, 4, 8)},
       kInvalid,
       weights,
       "gate.lora_B.weight\" has shape [4, 8], expected [4, 4]"},
      {"WrongInputs",
       plain,
       {A(gate, 4, 31), B(gate, 4, 4)},
       kInvalid,
       weights,
       "has shape [4, 31], expected [4, 32]"},
      {"Flat",
       plain,
       {{kPrefix + gate + ".lora_A.weight", DType::kFloat32, {128}}, B(gate, 4, 4)},
       kInvalid,
       weights,
       "has shape [128], expected [4, 32]"},
      {"Gate2OfOtherSize",
       plain,
       {A(gate2, 4, 32), B(gate2, 3, 4)},
       kInvalid,
       "",
       "has 3 rows, expected 2 as in"},
      {"Gate2BIsFlat",
       plain,
       {A(gate2, 4, 32), {kPrefix + gate2 + ".lora_B.weight", DType::kFloat32, {8}}},
       kInvalid,
       weights,
       "gate2.lora_B.weight\": expected 2 dimensions"},
      {"UnknownTarget",
       plain,
       {A("0.input_layernorm", 4, 32)},
       kInvalid,
       weights,
       "input_layernorm.lora_A.weight\" is not known"},
      {"ExpertPastTheLast",
       plain,
       {A("0.block_sparse_moe.experts.4.w1", 4, 32)},
       kInvalid,
       weights,
       "experts.4.w1.lora_A.weight\" is not known"},
      {"LayerPastTheLast",
       plain,
       {A("2.block_sparse_moe.gate", 4, 32)},
       kInvalid,
       weights,
       "layers.2.block_sparse_moe.gate.lora_A.weight\" is not known"},
      {"FullWeight",
       plain,
       {{"base_model.model.lm_head.weight", DType::kFloat32, {300, 32}}},
       kInvalid,
       weights,
       "lm_head.weight\" is not known"},
  };
}

class HostileAdapterTest : public testing::TestWithParam<HostileAdapter> {};

TEST_P(HostileAdapterTest, IsRefusedNamingFileAndTensor) {
  const HostileAdapter& hostile = GetParam();
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint({}, folder / "base").ok());
  std::filesystem::create_directory(folder / "adapter");
  ASSERT_TRUE(WriteTextFile(folder / "adapter/adapter_config.json", hostile.config).ok());
  ASSERT_TRUE(WriteSafetensors(folder / "adapter/adapter_model.safetensors", hostile.tensors,
                               [](const NewTensor&, int64_t, int64_t count, float* out) {
                                 std::fill(out, out + count, 0.25f);
                               })
                  .ok());
  const auto weights =
      LoadMixtral({.model_dir = folder / "base", .adapter_dir = folder / "adapter"});
  ASSERT_FALSE(weights.ok());
  EXPECT_EQ(weights.status().code(), hostile.code) << weights.status();
  const std::string message(weights.status().message());
  const std::string file =
      hostile.file.empty() ? folder / "adapter" : folder / ("adapter/" + hostile.file);
  EXPECT_THAT(message, testing::StartsWith(file + ": "));
  EXPECT_THAT(message, HasSubstr(hostile.message));
}

INSTANTIATE_TEST_SUITE_P(Table, HostileAdapterTest, testing::ValuesIn(HostileAdapters()),
                         [](const auto& info) { return info.param.name; });

TEST_F(AdapterTest, Gate2MustBeInEveryLayerWhenTheBaseHasNone) {
  CheckpointOptions base;
  base.config.num_null_experts = 0;
  Write(base, {});
  const std::vector<NewTensor> tensors = {A("0.block_sparse_moe.gate2", 4, 32),
                                          B("0.block_sparse_moe.gate2", 2, 4)};
  ASSERT_TRUE(WriteSafetensors(folder_ / "adapter/adapter_model.safetensors", tensors,
                               [](const NewTensor&, int64_t, int64_t count, float* out) {
                                 std::fill(out, out + count, 0.25f);
                               })
                  .ok());
  EXPECT_THAT(std::string(LoadMerged().status().message()),
              HasSubstr("layers.1.block_sparse_moe.gate2.weight\" gives layer 1 0 null experts"));
}

TEST_F(AdapterTest, MissingFilesAreNamed) {
  Write({}, {});
  std::filesystem::remove(folder_ / "adapter/adapter_model.safetensors");
  EXPECT_EQ(LoadMerged().status().code(), kNotFound);
  EXPECT_THAT(std::string(LoadMerged().status().message()), HasSubstr("adapter_model.safetensors"));
  std::filesystem::remove(folder_ / "adapter/adapter_config.json");
  EXPECT_EQ(LoadMerged().status().code(), kNotFound);
  EXPECT_THAT(std::string(LoadMerged().status().message()), HasSubstr("adapter_config.json"));
}

}  // namespace
}  // namespace adamoe
