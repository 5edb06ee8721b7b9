#include "train/lora_training.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

constexpr int64_t kMaxRank = 4096;

const std::vector<std::string>& KnownTargets() {
  static const auto& names = *new std::vector<std::string>{
      "gate", "gate2", "w1", "w2", "w3", "q_proj", "k_proj", "v_proj", "o_proj"};
  return names;
}

bool IsOfExperts(TensorRole role) {
  return role == TensorRole::kW1 || role == TensorRole::kW2 || role == TensorRole::kW3;
}

}  // namespace

absl::Status CheckLoraOptions(const LoraOptions& options) {
  if (options.rank < 1 || options.rank > kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora_r ", options.rank, ": expected 1 to ", kMaxRank));
  }
  if (!(options.alpha > 0 && options.alpha <= 1e6)) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora_alpha ", options.alpha, ": expected above 0, at most 1e6"));
  }
  if (options.targets.empty()) return absl::InvalidArgumentError("lora_targets names none");
  for (auto target = options.targets.begin(); target != options.targets.end(); ++target) {
    const std::vector<std::string>& known = KnownTargets();
    if (std::find(known.begin(), known.end(), *target) == known.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "lora_targets: \"", *target, "\": expected some of ", absl::StrJoin(known, ", ")));
    }
    if (std::find(options.targets.begin(), target, *target) != target) {
      return absl::InvalidArgumentError(
          absl::StrCat("lora_targets: \"", *target, "\" is given twice"));
    }
  }
  return absl::OkStatus();
}

std::vector<LoraTraining::Target> LoraTraining::ParseTargets() const {
  using enum TensorRole;
  using Layer = MixtralLayerParameters;
  const ModelConfig& config = model_.config;
  const int64_t inner = config.intermediate_size;
  const int64_t q_rows = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_rows = int64_t{config.num_kv_heads} * config.head_dim;
  const std::vector<Target> all = {
      {"gate", kGate, &Layer::gate, 0, config.num_experts},
      {"gate2", kGate2, &Layer::gate2, 0, config.num_null_experts},
      {"w1", kW1, &Layer::w13, 0, inner},
      {"w2", kW2, &Layer::w2, 0, config.hidden_size},
      {"w3", kW3, &Layer::w13, inner, inner},
      {"q_proj", kQProj, &Layer::qkv_proj, 0, q_rows},
      {"k_proj", kKProj, &Layer::qkv_proj, q_rows, kv_rows},
      {"v_proj", kVProj, &Layer::qkv_proj, q_rows + kv_rows, kv_rows},
      {"o_proj", kOProj, &Layer::o_proj, 0, config.hidden_size},
  };
  std::vector<Target> chosen;
  for (const Target& target : all) {
    const auto& names = options_.targets;
    const bool is_named = std::find(names.begin(), names.end(), target.name) != names.end();
    if (is_named && target.size > 0) chosen.push_back(target);
  }
  return chosen;
}

LoraTraining::LoraTraining(ReferenceModel model, const LoraOptions& options,
                           at::ScalarType matrix_type)
    : model_(std::move(model)), options_(options), targets_(ParseTargets()) {
  base_ = model_.parameters;
  if (base_.lm_head.defined()) base_.lm_head = base_.lm_head.to(matrix_type);
  using Layer = MixtralLayerParameters;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(options_.seed);
  for (MixtralLayerParameters& layer : base_.layers) {
    if (!Changes({&Layer::qkv_proj})) layer.qkv_proj = layer.qkv_proj.to(matrix_type);
    if (!Changes({&Layer::o_proj})) layer.o_proj = layer.o_proj.to(matrix_type);
    // Experts compute in one type.
    if (!Changes({&Layer::w13, &Layer::w2})) {
      layer.w13 = layer.w13.to(matrix_type);
      layer.w2 = layer.w2.to(matrix_type);
    }
    for (const Target& target : targets_) {
      // The shapes are the tensor's but for one dimension: the experts' first one stays.
      std::vector<int64_t> a_shape = (layer.*target.tensor).sizes().vec();
      std::vector<int64_t> b_shape = a_shape;
      const size_t rows = a_shape.size() - 2;
      a_shape[rows] = options_.rank;
      b_shape[rows] = target.size;
      b_shape[rows + 1] = options_.rank;
      const double bound = 1 / std::sqrt(static_cast<double>(a_shape[rows + 1]));
      const at::Tensor a = at::empty(a_shape, at::kFloat).uniform_(-bound, bound, generator);
      const at::Device device = (layer.*target.tensor).device();
      factors_.push_back({a.to(device), at::zeros(b_shape, at::TensorOptions(device))});
    }
  }
}

bool LoraTraining::Changes(
    std::initializer_list<at::Tensor MixtralLayerParameters::*> tensors) const {
  return std::any_of(targets_.begin(), targets_.end(), [&](const Target& target) {
    return std::find(tensors.begin(), tensors.end(), target.tensor) != tensors.end();
  });
}

NamedTensors LoraTraining::Parameters() const {
  NamedTensors named;
  for (size_t i = 0; i < factors_.size(); ++i) {
    const std::string prefix = absl::StrCat("layers.", i / targets_.size(), ".",
                                            targets_[i % targets_.size()].name, ".lora_");
    named.emplace_back(prefix + "A", factors_[i].a);
    named.emplace_back(prefix + "B", factors_[i].b);
  }
  return named;
}

TrainingPass LoraTraining::BeginPass() const {
  const auto leaf = [](const at::Tensor& tensor) {
    return tensor.detach().clone().set_requires_grad(true);
  };
  TrainingPass pass;
  std::vector<Factors> copies;
  for (const Factors& factors : factors_) {
    copies.push_back({leaf(factors.a), leaf(factors.b)});
    pass.leaves.push_back(copies.back().a);
    pass.leaves.push_back(copies.back().b);
  }
  pass.forward = [this, copies = std::move(copies)](const at::Tensor& tokens) {
    return ReferenceForward(model_.config, Adapted(base_, copies), tokens);
  };
  return pass;
}

MixtralParameters LoraTraining::Adapted(const MixtralParameters& base,
                                        const std::vector<Factors>& factors) const {
  const double scale = options_.alpha / static_cast<double>(options_.rank);
  MixtralParameters adapted = base;
  auto next = factors.begin();
  for (MixtralLayerParameters& layer : adapted.layers) {
    for (const Target& target : targets_) {
      at::Tensor& whole = layer.*target.tensor;
      const at::Tensor delta = at::matmul(next->b, next->a) * scale;
      const int64_t after = whole.size(-2) - target.begin - target.size;
      whole = whole + at::constant_pad_nd(delta, {0, 0, target.begin, after});
      ++next;
    }
  }
  return adapted;
}

MixtralParameters LoraTraining::Merged() const { return Adapted(model_.parameters, factors_); }

NamedTensors LoraTraining::AdapterTensors() const {
  NamedTensors tensors;
  for (size_t i = 0; i < factors_.size(); ++i) {
    const Target& target = targets_[i % targets_.size()];
    const int32_t layer = static_cast<int32_t>(i / targets_.size());
    const auto add = [&](int32_t expert, const at::Tensor& a, const at::Tensor& b) {
      const std::string name = SpecOf(target.role, model_.config, layer, expert).name;
      const std::string prefix =
          absl::StrCat("base_model.model.", absl::StripSuffix(name, ".weight"));
      tensors.emplace_back(prefix + ".lora_A.weight", a);
      tensors.emplace_back(prefix + ".lora_B.weight", b);
    };
    if (!IsOfExperts(target.role)) {
      add(-1, factors_[i].a, factors_[i].b);
      continue;
    }
    for (int32_t expert = 0; expert < model_.config.num_experts; ++expert) {
      add(expert, factors_[i].a.select(0, expert), factors_[i].b.select(0, expert));
    }
  }
  return tensors;
}

std::string LoraTraining::AdapterConfigJson() const {
  std::vector<std::string> names;
  for (const Target& target : targets_) names.push_back(target.name);
  const nlohmann::ordered_json json = {{"peft_type", "LORA"},
                                       {"task_type", "CAUSAL_LM"},
                                       {"base_model_name_or_path", options_.model_dir},
                                       {"r", options_.rank},
                                       {"lora_alpha", options_.alpha},
                                       {"lora_dropout", 0.0},
                                       {"target_modules", names},
                                       {"bias", "none"},
                                       {"fan_in_fan_out", false},
                                       {"inference_mode", true}};
  return json.dump(2) + "\n";
}

absl::Status LoraTraining::Save(const std::string& dir) const {
  if (options_.merge) {
    return WriteModelFolderLike(options_.model_dir, dir, Merged(), model_.config.experts_per_token);
  }
  RETURN_IF_ERROR(WriteSafetensors(dir + "/adapter_model.safetensors", AdapterTensors()));
  return WriteFileAtomically(dir + "/adapter_config.json", AdapterConfigJson());
}

absl::Status LoraTraining::CheckSaved(const std::string& dir) const {
  const std::string path = dir + "/adapter_config.json";
  const auto text = ReadTextFile(path);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  const nlohmann::json saved =
      nlohmann::json::parse(*text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  const nlohmann::json expected = nlohmann::json::parse(AdapterConfigJson());
  for (const char* key : {"r", "lora_alpha", "target_modules"}) {
    if (saved.is_object() && saved.value(key, nlohmann::json()) == expected[key]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", key, " is not this training's, ", expected[key].dump()));
  }
  return absl::OkStatus();
}

}  // namespace adamoe
