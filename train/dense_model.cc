#include "train/dense_model.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/weights/checkpoint_files.h"
#include "server/weights/json_reader.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/tensor_table.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr char kArchitecture[] = "LlamaForCausalLM";

void CheckLlama(JsonFields& fields) {
  if (fields.String("model_type", "") != "llama") fields.Fail("model_type", "\"llama\"");
  if (fields.Has("architectures")) {
    const json& list = *fields.Find("architectures");
    if (!list.is_array() || list.size() != 1 || list[0] != kArchitecture) {
      fields.Fail("architectures", absl::StrCat("[\"", kArchitecture, "\"]"));
    }
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (fields.Bool(key, false)) fields.Fail(key, "false");
  }
}

// What Llama's config leaves out or means otherwise, in the words of Mixtral's.
void SayAsMixtral(json* object) {
  const auto set_default = [object](const char* key, const json& value) {
    const auto found = object->find(key);
    if (found == object->end() || found->is_null()) (*object)[key] = value;
  };
  set_default("num_key_value_heads", nullptr);  // null: as many as attention heads
  set_default("rope_theta", 1e4);
  set_default("rms_norm_eps", 1e-6);
  (*object)["model_type"] = "mixtral";
  (*object)["architectures"] = json::array({"MixtralForCausalLM"});
  (*object)["num_local_experts"] = 1;
  (*object)["num_experts_per_tok"] = 1;
  object->erase("sliding_window");
}

// Llama's name of a tensor. The gate has none.
std::string LlamaName(const TensorSpec& spec) {
  const auto in_mlp = [&spec](const char* name) {
    return absl::StrCat("model.layers.", spec.layer, ".mlp.", name, ".weight");
  };
  switch (spec.role) {
    case TensorRole::kW1:
      return in_mlp("gate_proj");
    case TensorRole::kW2:
      return in_mlp("down_proj");
    case TensorRole::kW3:
      return in_mlp("up_proj");
    default:
      return spec.name;
  }
}

// INVALID_ARGUMENT unless the files hold every tensor of the model in its shape, and no other.
absl::Status CheckTensors(const CheckpointFiles& files, const ModelConfig& config) {
  std::set<std::string> known = {"lm_head.weight"};  // some folders hold it though it is tied
  RETURN_IF_ERROR(ForEachTensor(config, [&](const TensorSpec& spec) {
    if (spec.role == TensorRole::kGate) return absl::OkStatus();
    const std::string name = LlamaName(spec);
    known.insert(name);
    return files.Find(name, spec.shape).status();
  }));
  for (const std::string& name : files.Names()) {
    if (known.count(name) > 0 || IsDerivedTensor(name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(files.PathOf(name), ": tensor \"",
                                                   absl::CEscape(name),
                                                   "\" is not one of the model of config.json"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadLlamaConfig(const std::string& dir, const std::string& text) {
  ASSIGN_OR_RETURN(ModelConfig config, ParseLlamaConfig(text, dir + "/config.json"));
  const std::string path = dir + "/generation_config.json";
  const absl::StatusOr<std::string> generation = ReadTextFile(path, kMaxConfigBytes);
  if (absl::IsNotFound(generation.status())) return config;
  RETURN_IF_ERROR(generation.status());
  RETURN_IF_ERROR(MergeGenerationConfig(*generation, path, config));
  return config;
}

absl::StatusOr<ReferenceModel> LoadLlama(const std::string& dir, const std::string& config_text) {
  MixtralWeights weights;
  ASSIGN_OR_RETURN(weights.config, ReadLlamaConfig(dir, config_text));
  ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointFiles> files, CheckpointFiles::OpenFolder(dir));
  RETURN_IF_ERROR(CheckTensors(*files, weights.config));
  files->ReadAhead();
  const auto find = [&](TensorRole role, int32_t layer = -1) {
    const TensorSpec spec = SpecOf(role, weights.config, layer, 0);
    return *files->Find(LlamaName(spec), spec.shape);  // checked
  };
  using enum TensorRole;
  const std::vector<float> gate(weights.config.hidden_size, 0.0f);
  weights.embed_tokens = find(kEmbedTokens);
  weights.norm = find(kNorm);
  if (!weights.config.tie_word_embeddings) weights.lm_head = find(kLmHead);
  for (int32_t i = 0; i < weights.config.num_layers; ++i) {
    MixtralLayerWeights layer;
    layer.input_norm = find(kInputNorm, i);
    layer.post_attn_norm = find(kPostAttnNorm, i);
    layer.q_proj = find(kQProj, i);
    layer.k_proj = find(kKProj, i);
    layer.v_proj = find(kVProj, i);
    layer.o_proj = find(kOProj, i);
    layer.gate = {gate.data(), DType::kFloat32, {1, weights.config.hidden_size}};
    layer.experts = {{find(kW1, i), find(kW2, i), find(kW3, i)}};
    weights.layers.push_back(std::move(layer));
  }
  return ReferenceFrom(weights);
}

}  // namespace

absl::StatusOr<ModelConfig> ParseLlamaConfig(const std::string& text, const std::string& file) {
  ASSIGN_OR_RETURN(json object, ParseJsonObject(text, file));
  JsonFields fields(object, file);
  CheckLlama(fields);
  RETURN_IF_ERROR(fields.status());
  SayAsMixtral(&object);
  return ParseModelConfig(
      object.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace), file);
}

absl::StatusOr<ReferenceModel> LoadDenseModel(const std::string& dir) {
  const std::string path = dir + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, path));
  JsonFields fields(object, path);
  const std::string model_type = fields.String("model_type", "");
  if (model_type == "llama") return LoadLlama(dir, text);
  if (model_type != "mixtral") fields.Fail("model_type", "\"llama\" or \"mixtral\"");
  RETURN_IF_ERROR(fields.status());
  ASSIGN_OR_RETURN(ReferenceModel model, LoadModelFolder(dir));
  if (model.config.num_experts != 1 || model.config.num_null_experts != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        dir, ": has ", model.config.num_experts, " experts and ", model.config.num_null_experts,
        " null experts, expected a dense model: one expert and no null ones"));
  }
  return model;
}

}  // namespace adamoe
