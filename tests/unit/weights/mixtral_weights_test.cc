#include "server/weights/mixtral_weights.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/weights/safetensors.h"
#include "server/weights/tensor_table.h"
#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/safetensors_writer.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// What the default logger says while this lives.
class CapturedLog {
 public:
  CapturedLog() : previous_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(text_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("captured", sink));
  }
  ~CapturedLog() { spdlog::set_default_logger(previous_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> previous_;
};

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Changes config.json.
void PatchConfig(const TempFolder& folder, const std::string& patch) {
  json config = json::parse(ReadFile(folder / "config.json"));
  config.update(json::parse(patch));
  ASSERT_TRUE(WriteTextFile(folder / "config.json", config.dump()).ok());
}

// Rewrites model.safetensors with `edit` applied to its list of tensors; values become zero.
void RewriteTensors(const TempFolder& folder, const ModelConfig& config,
                    const std::function<void(std::vector<NewTensor>&)>& edit) {
  std::vector<NewTensor> tensors;
  for (const TensorSpec& spec : MixtralTensors(config)) {
    tensors.push_back({spec.name, DType::kBFloat16, spec.shape});
  }
  edit(tensors);
  ASSERT_TRUE(WriteSafetensors(folder / "model.safetensors", tensors,
                               [](const NewTensor&, int64_t, int64_t count, float* out) {
                                 std::fill(out, out + count, 0.0f);
                               })
                  .ok());
}

NewTensor& Named(std::vector<NewTensor>& tensors, const std::string& name) {
  for (NewTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << name;
  return tensors.front();
}

// The view's bytes.
std::string BytesOf(const TensorView& view) {
  return {static_cast<const char*>(view.data),
          static_cast<size_t>(view.num_elements()) * SizeOf(view.dtype)};
}

// Every view of `weights` by the name of its tensor, written out by hand: the table's own mapping
// is under test.
std::vector<std::pair<std::string, const TensorView*>> Views(const MixtralWeights& weights) {
  std::vector<std::pair<std::string, const TensorView*>> views = {
      {"model.embed_tokens.weight", &weights.embed_tokens}, {"model.norm.weight", &weights.norm}};
  if (!weights.config.tie_word_embeddings) views.push_back({"lm_head.weight", &weights.lm_head});
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const MixtralLayerWeights& layer = weights.layers[i];
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    views.push_back({prefix + "input_layernorm.weight", &layer.input_norm});
    views.push_back({prefix + "post_attention_layernorm.weight", &layer.post_attn_norm});
    views.push_back({prefix + "self_attn.q_proj.weight", &layer.q_proj});
    views.push_back({prefix + "self_attn.k_proj.weight", &layer.k_proj});
    views.push_back({prefix + "self_attn.v_proj.weight", &layer.v_proj});
    views.push_back({prefix + "self_attn.o_proj.weight", &layer.o_proj});
    views.push_back({prefix + "block_sparse_moe.gate.weight", &layer.gate});
    if (weights.config.num_null_experts > 0) {
      views.push_back({prefix + "block_sparse_moe.gate2.weight", &layer.gate2});
    }
    for (size_t j = 0; j < layer.experts.size(); ++j) {
      const std::string expert = absl::StrCat(prefix, "block_sparse_moe.experts.", j, ".");
      views.push_back({expert + "w1.weight", &layer.experts[j].w1});
      views.push_back({expert + "w2.weight", &layer.experts[j].w2});
      views.push_back({expert + "w3.weight", &layer.experts[j].w3});
    }
  }
  return views;
}

// The name of a tensor -> its bytes, over all files of the folder.
std::map<std::string, std::string> TensorsIn(const TempFolder& folder) {
  std::map<std::string, std::string> tensors;
  for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
    if (file.path().extension() != ".safetensors") continue;
    const auto opened = SafetensorsFile::Open(file.path().string());
    EXPECT_TRUE(opened.ok()) << opened.status();
    for (const auto& [name, entry] : (*opened)->entries()) {
      tensors[name] = std::string(static_cast<const char*>(entry.data), entry.num_bytes);
    }
  }
  return tensors;
}

struct Form {
  DType dtype;
  int32_t shards;
  bool tied;
  int32_t null_experts;
  bool new_style;
};

class MixtralFormTest : public testing::TestWithParam<Form> {};

TEST_P(MixtralFormTest, EveryTensorIsTheFilesOwn) {
  const Form form = GetParam();
  CheckpointOptions options;
  options.config.num_layers = 3;
  options.config.tie_word_embeddings = form.tied;
  options.config.num_null_experts = form.null_experts;
  options.config.sliding_window = 16;
  options.config.eos_token_ids = {2, 7};
  options.dtype = form.dtype;
  options.num_shards = form.shards;
  options.new_style_config = form.new_style;
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint(options, folder.path()).ok());
  const auto loaded = LoadMixtral({.model_dir = folder.path()});
  ASSERT_TRUE(loaded.ok()) << loaded.status();

  const ModelConfig& config = loaded->config;
  EXPECT_EQ(config.num_null_experts, form.null_experts);
  EXPECT_EQ(config.experts_per_token, 3);
  EXPECT_EQ(config.sliding_window, 16);
  EXPECT_EQ(config.rope_theta, 10000.0f);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2, 7));

  const std::map<std::string, std::string> tensors = TensorsIn(folder);
  const auto views = Views(*loaded);
  EXPECT_EQ(views.size(), tensors.size());
  for (const auto& [name, view] : views) {
    ASSERT_EQ(tensors.count(name), 1u) << name;
    EXPECT_EQ(view->dtype, form.dtype) << name;
    EXPECT_EQ(BytesOf(*view), tensors.at(name)) << name;
  }
  EXPECT_EQ(loaded->lm_head.data == loaded->embed_tokens.data, form.tied);
  EXPECT_EQ(loaded->layers[0].gate2.data != nullptr, form.null_experts > 0);
}

INSTANTIATE_TEST_SUITE_P(Grid, MixtralFormTest,
                         testing::Values(Form{DType::kBFloat16, 1, false, 2, false},
                                         Form{DType::kFloat16, 1, false, 8, true},
                                         Form{DType::kFloat32, 4, true, 1, false},
                                         Form{DType::kBFloat16, 5, false, 0, true},
                                         Form{DType::kBFloat16, 2, true, 0, false}));

TEST(MixtralWeightsTest, OutlivesEverythingElse) {
  MixtralWeights weights;
  {
    TempFolder folder;
    ASSERT_TRUE(WriteCheckpoint({}, folder.path()).ok());
    auto loaded = LoadMixtral({.model_dir = folder.path()});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    weights = *std::move(loaded);
  }
  float norm[32];
  CopyToFloat32(weights.norm, 0, 32, norm);
  for (float value : norm) EXPECT_NEAR(value, 1.0f, 0.25f);
}

TEST(MixtralWeightsTest, GenerationConfigsEosWins) {
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint({}, folder.path()).ok());
  ASSERT_TRUE(WriteTextFile(folder / "generation_config.json", R"({"eos_token_id": [5, 6]})").ok());
  auto weights = LoadMixtral({.model_dir = folder.path()});
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_THAT(weights->config.eos_token_ids, ElementsAre(5, 6));
  std::filesystem::remove(folder / "generation_config.json");
  weights = LoadMixtral({.model_dir = folder.path()});
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_THAT(weights->config.eos_token_ids, ElementsAre(2));
}

TEST(MixtralWeightsTest, ExpertsPerTokenIsOverridden) {
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint({}, folder.path()).ok());  // n = 4, m = 2
  for (int32_t k : {1, 4, 6}) {
    const auto weights = LoadMixtral({.model_dir = folder.path(), .experts_per_token = k});
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ(weights->config.experts_per_token, k);
  }
  for (int32_t k : {-1, 7, 256}) {
    const auto weights = LoadMixtral({.model_dir = folder.path(), .experts_per_token = k});
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(weights.status().message()),
                HasSubstr(absl::StrCat("experts_per_token is ", k, ", expected 1 to 6")));
  }
}

TEST(MixtralWeightsTest, PlainMixtralPicksTrueExpertsOnly) {
  CheckpointOptions options;
  options.config.num_null_experts = 0;
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint(options, folder.path()).ok());
  EXPECT_TRUE(LoadMixtral({.model_dir = folder.path(), .experts_per_token = 4}).ok());
  EXPECT_FALSE(LoadMixtral({.model_dir = folder.path(), .experts_per_token = 5}).ok());
  PatchConfig(folder, R"({"num_experts_per_tok": 5})");
  const auto weights = LoadMixtral({.model_dir = folder.path()});
  EXPECT_THAT(std::string(weights.status().message()),
              HasSubstr("config.json: num_experts_per_tok is 5, expected 1 to 4"));
  EXPECT_TRUE(LoadMixtral({.model_dir = folder.path(), .experts_per_token = 2}).ok());
}

TEST(MixtralWeightsTest, UnusedTensorsAreOneWarning) {
  TempFolder folder;
  const CheckpointOptions options;
  ASSERT_TRUE(WriteCheckpoint(options, folder.path()).ok());
  RewriteTensors(folder, options.config, [](std::vector<NewTensor>& tensors) {
    for (int i = 0; i < 10; ++i) {
      tensors.push_back({absl::StrCat("extra.", i), DType::kFloat32, {1}});
    }
    tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kFloat32, {4}});
  });
  CapturedLog log;
  ASSERT_TRUE(LoadMixtral({.model_dir = folder.path()}).ok());
  const std::string text = log.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_THAT(text, HasSubstr("model.safetensors: 10 tensors that the model does not use: "));
  EXPECT_THAT(text, HasSubstr("extra.0, extra.1, "));
  EXPECT_THAT(text, HasSubstr("extra.7, ..."));
  EXPECT_THAT(text, Not(HasSubstr("extra.8")));
  EXPECT_THAT(text, Not(HasSubstr("inv_freq")));
}

TEST(MixtralWeightsTest, NothingIsLoggedForAPlainFolder) {
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint({}, folder.path()).ok());
  CapturedLog log;
  ASSERT_TRUE(LoadMixtral({.model_dir = folder.path()}).ok());
  EXPECT_EQ(log.text(), "");
}

struct HostileFolder {
  std::string name;
  std::function<void(const TempFolder&, const ModelConfig&)> break_it;
  absl::StatusCode code;
  std::string file;
  std::string message;
};

// Breaks one tensor's shape, or removes the tensor when `shape` is empty.
std::function<void(const TempFolder&, const ModelConfig&)> WithShape(const std::string& name,
                                                                     std::vector<int64_t> shape) {
  return [=](const TempFolder& folder, const ModelConfig& config) {
    RewriteTensors(folder, config, [&](std::vector<NewTensor>& tensors) {
      NewTensor& tensor = Named(tensors, name);
      if (shape.empty()) {
        tensors.erase(tensors.begin() + (&tensor - tensors.data()));
      } else {
        tensor.shape = shape;
      }
    });
  };
}

std::function<void(const TempFolder&, const ModelConfig&)> WithFile(const std::string& name,
                                                                    const std::string& text) {
  return [=](const TempFolder& folder, const ModelConfig&) {
    ASSERT_TRUE(WriteTextFile(folder / name, text).ok());
  };
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;

std::vector<HostileFolder> HostileFolders() {
  const std::string moe1 = "model.layers.1.block_sparse_moe.";
  return {
      {"NoConfig",
       [](const TempFolder& f, const ModelConfig&) { std::filesystem::remove(f / "config.json"); },
       kNotFound, "config.json", "No such file"},
      {"ConfigIsFolder",
       [](const TempFolder& f, const ModelConfig&) {
         std::filesystem::remove(f / "config.json");
         std::filesystem::create_directory(f / "config.json");
       },
       kInvalid, "config.json", "expected a regular file"},
      {"ConfigIsHuge",
       [](const TempFolder& f, const ModelConfig&) {
         std::filesystem::resize_file(f / "config.json", uint64_t{1} << 40);
       },
       kInvalid, "config.json", "expected at most"},
      {"ConfigIsBroken", WithFile("config.json", "{"), kInvalid, "config.json", "not valid JSON"},
      {"GenerationConfigIsBroken", WithFile("generation_config.json", "{"), kInvalid,
       "generation_config.json", "not valid JSON"},
      {"GenerationConfigIsFolder",
       [](const TempFolder& f, const ModelConfig&) {
         std::filesystem::remove(f / "generation_config.json");
         std::filesystem::create_directory(f / "generation_config.json");
       },
       kInvalid, "generation_config.json", "expected a regular file"},
      {"NoWeights",
       [](const TempFolder& f, const ModelConfig&) {
         std::filesystem::remove(f / "model.safetensors");
       },
       kNotFound, "", "expected model.safetensors or model.safetensors.index.json"},
      {"WeightsCutShort",
       [](const TempFolder& f, const ModelConfig&) {
         std::filesystem::resize_file(f / "model.safetensors", 100000);
       },
       kInvalid, "model.safetensors", "tensor \""},
      {"WeightsEmpty", WithFile("model.safetensors", ""), kInvalid, "model.safetensors", "0 bytes"},
      {"NoLmHead", WithShape("lm_head.weight", {}), kNotFound, "model.safetensors",
       "tensor \"lm_head.weight\" is absent, expected with shape [300, 32]"},
      {"NoNorm", WithShape("model.norm.weight", {}), kNotFound, "model.safetensors",
       "tensor \"model.norm.weight\" is absent"},
      {"NoExpert", WithShape(moe1 + "experts.3.w2.weight", {}), kNotFound, "model.safetensors",
       "experts.3.w2.weight\" is absent"},
      {"WrongVocabulary", WithShape("model.embed_tokens.weight", {299, 32}), kInvalid,
       "model.safetensors",
       "tensor \"model.embed_tokens.weight\" has shape [299, 32], expected [300, 32]"},
      {"GateRows", WithShape(moe1 + "gate.weight", {8, 32}), kInvalid, "model.safetensors",
       "gate.weight\" has shape [8, 32], expected [4, 32]"},
      {"W2IsTransposed", WithShape(moe1 + "experts.0.w2.weight", {48, 32}), kInvalid,
       "model.safetensors", "experts.0.w2.weight\" has shape [48, 32], expected [32, 48]"},
      {"Gate2InSomeLayers", WithShape(moe1 + "gate2.weight", {}), kInvalid, "model.safetensors",
       "gate2.weight\" gives layer 1 0 null experts, expected 2 as in layer 0"},
      {"Gate2NotInTheFirstLayer", WithShape("model.layers.0.block_sparse_moe.gate2.weight", {}),
       kInvalid, "model.safetensors", "gives layer 1 2 null experts, expected 0"},
      {"Gate2RowsDiffer", WithShape(moe1 + "gate2.weight", {3, 32}), kInvalid, "model.safetensors",
       "gives layer 1 3 null experts, expected 2"},
      {"Gate2HasNoRows", WithShape(moe1 + "gate2.weight", {0, 32}), kInvalid, "model.safetensors",
       "has shape [0, 32], expected [null experts, hidden]"},
      {"Gate2IsFlat", WithShape(moe1 + "gate2.weight", {64}), kInvalid, "model.safetensors",
       "has shape [64], expected [null experts, hidden]"},
      {"Gate2HasTooManyRows", WithShape(moe1 + "gate2.weight", {5000, 32}), kInvalid,
       "model.safetensors", "1 to 4096 null experts"},
      {"Gate2IsNarrow", WithShape("model.layers.0.block_sparse_moe.gate2.weight", {2, 16}),
       kInvalid, "model.safetensors", "gate2.weight\" has shape [2, 16], expected [2, 32]"},
      {"MoreLayersThanTensors",
       [](const TempFolder& f, const ModelConfig&) {
         PatchConfig(f, R"({"num_hidden_layers": 3})");
       },
       kInvalid, "model.safetensors", "gives layer 2 0 null experts"},
  };
}

class HostileFolderTest : public testing::TestWithParam<HostileFolder> {};

TEST_P(HostileFolderTest, IsRefusedNamingFileAndTensor) {
  const CheckpointOptions options;
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint(options, folder.path()).ok());
  GetParam().break_it(folder, options.config);
  const auto weights = LoadMixtral({.model_dir = folder.path()});
  ASSERT_FALSE(weights.ok());
  EXPECT_EQ(weights.status().code(), GetParam().code) << weights.status();
  const std::string message(weights.status().message());
  const std::string& file = GetParam().file;
  EXPECT_THAT(message, testing::StartsWith((file.empty() ? folder.path() : folder / file) + ": "));
  EXPECT_THAT(message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Table, HostileFolderTest, testing::ValuesIn(HostileFolders()),
                         [](const auto& info) { return info.param.name; });

// The table of such a model would have fifty million rows.
TEST(MixtralWeightsTest, ConfigsFarLargerThanTheFilesAreRefusedAtOnce) {
  CheckpointOptions options;
  options.config.num_null_experts = 0;
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint(options, folder.path()).ok());
  PatchConfig(folder, R"({"num_hidden_layers": 4096, "num_local_experts": 4096})");
  EXPECT_THAT(std::string(LoadMixtral({.model_dir = folder.path()}).status().message()),
              HasSubstr("gate.weight\" has shape [4, 32], expected [4096, 32]"));
  PatchConfig(folder, R"({"num_local_experts": 4})");
  EXPECT_THAT(std::string(LoadMixtral({.model_dir = folder.path()}).status().message()),
              HasSubstr("tensor \"model.layers.2.input_layernorm.weight\" is absent"));
}

TEST(MixtralWeightsTest, RefusesWhatIsNotAFolder) {
  TempFolder folder;
  ASSERT_TRUE(WriteTextFile(folder / "file", "x").ok());
  for (const std::string& dir : {folder / "missing", folder / "file", std::string()}) {
    const auto weights = LoadMixtral({.model_dir = dir});
    EXPECT_FALSE(weights.ok());
    EXPECT_THAT(std::string(weights.status().message()), HasSubstr("config.json")) << dir;
  }
}

}  // namespace
}  // namespace adamoe
