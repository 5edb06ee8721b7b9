#include "train/convert.h"

#include <ATen/CPUGeneratorImpl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

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
  RETURN_IF_ERROR(CheckOtherFolder(model_dir, out_dir));
  ASSIGN_OR_RETURN(const ReferenceModel model, LoadModelFolder(model_dir));
  ASSIGN_OR_RETURN(const ReferenceModel converted, AddNullExperts(model, options));
  RETURN_IF_ERROR(CopyTokenizer(model_dir, out_dir));
  RETURN_IF_ERROR(
      WriteModelFolderLike(model_dir, out_dir, converted.parameters, options.experts_per_token));
  spdlog::info("{}: {} true and {} null experts per layer, {} picks per token, was {}", out_dir,
               converted.config.num_experts, options.num_null_experts, options.experts_per_token,
               model.config.experts_per_token);
  return absl::OkStatus();
}

}  // namespace adamoe
