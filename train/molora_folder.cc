#include "train/molora_folder.h"

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/base/status_macros.h"
#include "server/weights/checkpoint_files.h"
#include "server/weights/json_reader.h"
#include "train/dense_model.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr char kPeftType[] = "MOLORA";

// "q_proj" of "self_attn.q_proj": what PEFT's target_modules hold.
std::vector<std::string> TargetModules() {
  std::vector<std::string> modules;
  for (absl::string_view name : kMoLoraTargetNames) {
    modules.emplace_back(name.substr(name.find('.') + 1));
  }
  return modules;
}

std::string ConfigPath(const std::string& dir) { return dir + "/adapter_config.json"; }

absl::StatusOr<json> ReadConfigJson(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(ConfigPath(dir), kMaxConfigBytes));
  return ParseJsonObject(text, ConfigPath(dir));
}

void CheckTargetModules(JsonFields& fields) {
  const std::vector<std::string> expected = TargetModules();
  const json* found = fields.Find("target_modules");
  std::set<std::string> modules;
  bool are_strings = found != nullptr && found->is_array() && found->size() == expected.size();
  if (are_strings) {
    for (const json& module : *found) {
      are_strings = are_strings && module.is_string();
      if (are_strings) modules.insert(module.get<std::string>());
    }
  }
  if (!are_strings || modules != std::set<std::string>(expected.begin(), expected.end())) {
    fields.Fail("target_modules", absl::StrCat("a list of ", absl::StrJoin(expected, ", ")));
  }
}

// A copy, as float32.
absl::StatusOr<at::Tensor> ReadTensor(const CheckpointFiles& files, const std::string& name,
                                      const std::vector<int64_t>& shape) {
  ASSIGN_OR_RETURN(const TensorView view, files.Find(name, shape));
  at::Tensor tensor = at::empty(shape, at::kFloat);
  CopyToFloat32(view, 0, view.num_elements(), tensor.mutable_data_ptr<float>());
  return tensor;
}

}  // namespace

absl::Status WriteMoLora(const std::string& dir, const std::string& base_model,
                         const MoLora& molora) {
  const MoLoraConfig& config = molora.config;
  const nlohmann::ordered_json json = {{"peft_type", kPeftType},
                                       {"task_type", "CAUSAL_LM"},
                                       {"base_model_name_or_path", base_model},
                                       {"num_experts", config.num_experts},
                                       {"num_null_experts", config.num_null_experts},
                                       {"experts_per_token", config.experts_per_token},
                                       {"r", config.rank},
                                       {"lora_alpha", config.alpha},
                                       {"target_modules", TargetModules()}};
  NamedTensors tensors = MoLoraTensors(molora);
  for (auto& [name, tensor] : tensors) tensor = tensor.detach().to(at::kFloat).contiguous();
  RETURN_IF_ERROR(WriteSafetensors(dir + "/adapter_model.safetensors", tensors));
  // A path may hold any bytes.
  const std::string text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  return WriteFileAtomically(ConfigPath(dir), text + "\n");
}

bool IsMoLora(const std::string& dir) {
  const absl::StatusOr<json> object = ReadConfigJson(dir);
  if (!object.ok()) return false;
  const auto type = object->find("peft_type");
  return type != object->end() && *type == kPeftType;
}

absl::StatusOr<MoLoraConfig> ReadMoLoraConfig(const std::string& dir) {
  ASSIGN_OR_RETURN(const json object, ReadConfigJson(dir));
  JsonFields fields(object, ConfigPath(dir));
  if (fields.String("peft_type", "") != kPeftType) fields.Fail("peft_type", "\"MOLORA\"");
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const auto read = [&fields](const char* key) {
    return static_cast<int32_t>(fields.Int(key, 0, kMax));
  };
  MoLoraConfig config;
  config.num_experts = read("num_experts");
  config.num_null_experts = read("num_null_experts");
  config.experts_per_token = read("experts_per_token");
  config.rank = read("r");
  config.alpha = fields.PositiveNumber("lora_alpha", 1e6);
  CheckTargetModules(fields);
  RETURN_IF_ERROR(fields.status());
  const absl::Status status = CheckMoLoraConfig(config);
  if (status.ok()) return config;
  return absl::InvalidArgumentError(
      absl::StrCat(ConfigPath(dir), ": ", std::string(status.message())));
}

absl::StatusOr<MoLora> ReadMoLora(const std::string& dir, const ModelConfig& base) {
  MoLora molora;
  ASSIGN_OR_RETURN(molora.config, ReadMoLoraConfig(dir));
  ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointFiles> files,
                   CheckpointFiles::OpenFile(dir + "/adapter_model.safetensors"));
  molora.layers.resize(base.num_layers);
  const std::array<LinearShape, kNumMoLoraTargets> shapes = MoLoraTargetShapes(base);
  const int64_t n = molora.config.num_experts;
  const int64_t rank = molora.config.rank;
  std::set<std::string> known;
  for (const auto& [name, unset] : MoLoraTensors(molora)) known.insert(name);
  for (int32_t i = 0; i < base.num_layers; ++i) {
    for (int target = 0; target < kNumMoLoraTargets; ++target) {
      const std::string prefix = MoLoraTensorPrefix(i, static_cast<MoLoraTarget>(target));
      const auto [in, out] = shapes[target];
      RoutedLora& lora = molora.layers[i][target];
      ASSIGN_OR_RETURN(lora.router, ReadTensor(*files, prefix + "router.weight",
                                               {n + molora.config.num_null_experts, in}));
      ASSIGN_OR_RETURN(lora.a, ReadTensor(*files, prefix + "A.weight", {n, rank, in}));
      ASSIGN_OR_RETURN(lora.b, ReadTensor(*files, prefix + "B.weight", {n, out, rank}));
    }
  }
  for (const std::string& name : files->Names()) {
    if (known.count(name) > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(files->source(), ": tensor \"",
                                                   absl::CEscape(name),
                                                   "\" belongs to no linear layer of the base"));
  }
  return molora;
}

absl::StatusOr<MoLoraModel> LoadMoLora(const std::string& model_dir,
                                       const std::string& adapter_dir) {
  MoLoraModel model;
  ASSIGN_OR_RETURN(model.base, LoadDenseModel(model_dir));
  ASSIGN_OR_RETURN(model.molora, ReadMoLora(adapter_dir, model.base.config));
  return model;
}

}  // namespace adamoe
