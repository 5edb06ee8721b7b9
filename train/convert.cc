#include "train/convert.h"

#include <ATen/CPUGeneratorImpl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/weights/checkpoint_files.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

absl::Status CheckOptions(const ModelConfig& config, const NullExpertOptions& options) {
  const int32_t n = config.num_experts;
  const int32_t m = options.num_null_experts;
  const int32_t k = options.experts_per_token;
  if (config.num_null_experts > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model has ", config.num_null_experts, " null experts already"));
  }
  if (m < 0 || m > kMaxExperts - n) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_null_experts ", m, ": expected 0 to ", kMaxExperts - n));
  }
  const int32_t max_k = std::min(n + m, kMaxExpertsPerToken);
  if (k < 1 || k > max_k) {
    return absl::InvalidArgumentError(absl::StrCat("experts_per_token ", k, ": expected 1 to ",
                                                   max_k, " of ", n, " true and ", m,
                                                   " null experts"));
  }
  if (!(options.router_noise >= 0 && std::isfinite(options.router_noise))) {
    return absl::InvalidArgumentError("router_noise must be a number of at least 0");
  }
  return absl::OkStatus();
}

at::ScalarType TorchType(DType dtype) {
  return dtype == DType::kFloat32   ? at::kFloat
         : dtype == DType::kFloat16 ? at::kHalf
                                    : at::kBFloat16;
}

// Gives each tensor the type it has in `source`; those that `source` lacks stay float32.
absl::Status TakeTypes(const CheckpointFiles& source, NamedTensors* tensors) {
  for (auto& [name, tensor] : *tensors) {
    if (!source.Contains(name)) continue;
    ASSIGN_OR_RETURN(const TensorView view, source.Find(name));
    tensor = tensor.to(TorchType(view.dtype));
  }
  return absl::OkStatus();
}

// The text of a config.json with another k.
std::string WithExpertsPerToken(const std::string& config_json, int32_t experts_per_token) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(config_json);
  json["num_experts_per_tok"] = experts_per_token;
  return json.dump(2) + "\n";
}

absl::Status CopyGenerationConfig(const std::string& from_dir, const std::string& to_dir) {
  const auto text = ReadTextFile(from_dir + "/generation_config.json");
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  return WriteFileAtomically(to_dir + "/generation_config.json", *text);
}

}  // namespace

absl::StatusOr<ReferenceModel> AddNullExperts(const ReferenceModel& model,
                                              const NullExpertOptions& options) {
  RETURN_IF_ERROR(CheckOptions(model.config, options));
  ReferenceModel converted = model;
  converted.config.num_null_experts = options.num_null_experts;
  converted.config.experts_per_token = options.experts_per_token;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  for (MixtralLayerParameters& layer : converted.parameters.layers) {
    const at::Tensor sources = at::arange(options.num_null_experts) % layer.gate.size(0);
    const at::Tensor rows = layer.gate.index_select(0, sources);
    const at::Tensor scale = rows.square().mean(1, /*keepdim=*/true).sqrt();
    layer.gate2 =
        rows + at::randn(rows.sizes(), generator, at::kFloat) * scale * options.router_noise;
  }
  return converted;
}

absl::Status ConvertFolder(const std::string& model_dir, const std::string& out_dir,
                           const NullExpertOptions& options) {
  std::error_code error;
  if (std::filesystem::equivalent(model_dir, out_dir, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat(out_dir, ": is the model's own folder, expected another"));
  }
  ASSIGN_OR_RETURN(const ReferenceModel model, LoadModelFolder(model_dir));
  ASSIGN_OR_RETURN(const ReferenceModel converted, AddNullExperts(model, options));
  NamedTensors tensors = HuggingFaceTensors(converted.parameters, at::kFloat);
  ASSIGN_OR_RETURN(const auto source, CheckpointFiles::OpenFolder(model_dir));
  RETURN_IF_ERROR(TakeTypes(*source, &tensors));
  ASSIGN_OR_RETURN(const std::string config, ReadTextFile(model_dir + "/config.json"));
  RETURN_IF_ERROR(CopyTokenizer(model_dir, out_dir));
  RETURN_IF_ERROR(WriteSafetensors(out_dir + "/model.safetensors", tensors));
  RETURN_IF_ERROR(CopyGenerationConfig(model_dir, out_dir));
  RETURN_IF_ERROR(WriteFileAtomically(out_dir + "/config.json",
                                      WithExpertsPerToken(config, options.experts_per_token)));
  spdlog::info("{}: {} true and {} null experts per layer, {} picks per token, was {}", out_dir,
               converted.config.num_experts, options.num_null_experts, options.experts_per_token,
               model.config.experts_per_token);
  return absl::OkStatus();
}

}  // namespace adamoe
