#include "server/loaded_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/dtype.h"
#include "server/base/status_macros.h"
#include "server/device/cuda_driver.h"
#include "server/device/device_plugin.h"
#include "server/device/plugin_loader.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/machine.h"
#include "server/model/mixtral_model.h"
#include "server/model/quantize.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {
namespace {

// Absolute, and without a slash at its end.
std::filesystem::path FolderOf(const std::string& model_dir) {
  const std::filesystem::path path = std::filesystem::absolute(model_dir).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

absl::StatusOr<Isa> ChooseIsa() {
  const char* name = std::getenv("ADAMOE_CPU_ISA");
  if (name == nullptr || *name == '\0') return BestIsa();
  const auto isa = ParseIsa(name);
  if (isa.ok()) return isa;
  return absl::Status(isa.status().code(),
                      absl::StrCat("ADAMOE_CPU_ISA: ", isa.status().message()));
}

int64_t KvCacheTokens(const ServerFlags& flags, const ModelConfig& config, Precision precision) {
  if (flags.kv_cache_tokens > 0) return flags.kv_cache_tokens;
  const int64_t element_bytes = precision == Precision::kFloat32 ? 4 : 2;
  return DefaultKvCacheTokens(config, element_bytes, AvailableMemoryBytes());
}

// A bound on the text that fits `max_context_tokens`, with room for normalization that shortens it.
size_t MaxTextBytes(const Tokenizer& tokenizer, int32_t max_context_tokens) {
  size_t longest = 1;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    longest = std::max(longest, tokenizer.TokenBytes(id).size());
  }
  return 4 * longest * static_cast<size_t>(max_context_tokens);
}

// What a model is made on, beside the CPU.
struct Gpu {
  CudaDevice device;
  const DevicePlugin* plugin;
};

// INVALID_ARGUMENT for types that the plugin has no kernels for.
absl::Status CheckCudaTypes(const ServerFlags& flags) {
  if (flags.weight_dtype.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("--weight_dtype=", Name(*flags.weight_dtype),
                                                   " runs on the CPU only, not on cuda"));
  }
  if (flags.activation_dtype == Precision::kFloat32) {
    return absl::InvalidArgumentError(
        "--activation_dtype=float32 runs on the CPU only: on cuda it is bfloat16");
  }
  return absl::OkStatus();
}

absl::StatusOr<Gpu> FindGpu(const ServerFlags& flags) {
  RETURN_IF_ERROR(CheckCudaTypes(flags));
  Gpu gpu;
  ASSIGN_OR_RETURN(gpu.device, FindCudaDevice());
  ASSIGN_OR_RETURN(gpu.plugin, OpenDevicePlugin(CudaPluginPath(flags.device_plugin)));
  return gpu;
}

// The GPU to use; nothing for the CPU, and then, if that was open, logs why.
absl::StatusOr<std::optional<Gpu>> ChooseGpu(const ServerFlags& flags) {
  if (flags.device == DeviceChoice::kCpu) return std::nullopt;
  const absl::StatusOr<Gpu> gpu = FindGpu(flags);
  if (gpu.ok()) return *gpu;
  if (flags.device == DeviceChoice::kCuda) {
    return absl::Status(gpu.status().code(),
                        absl::StrCat("--device=cuda: ", gpu.status().message()));
  }
  spdlog::info("runs on the CPU: {}", std::string(gpu.status().message()));
  return std::nullopt;
}

// What differs between devices.
struct Placement {
  std::string device;  // as GetModelInfo says it
  std::string on;      // for the log
  std::string weight_dtype;
  Precision precision = Precision::kBFloat16;
};

absl::StatusOr<Placement> PlaceOnGpu(const ServerFlags& flags, const Gpu& gpu,
                                     const MixtralWeights& weights, LoadedModel& loaded) {
  ASSIGN_OR_RETURN(loaded.model,
                   gpu.plugin->create(weights, {.device = gpu.device.ordinal,
                                                .kv_cache_tokens = flags.kv_cache_tokens,
                                                .block_size = flags.block_size,
                                                .max_batch_tokens = flags.max_batch_tokens,
                                                .max_sequences = flags.max_running_requests}));
  return Placement{.device = "cuda", .on = gpu.device.name, .weight_dtype = "bfloat16"};
}

absl::StatusOr<Placement> PlaceOnCpu(const ServerFlags& flags, MixtralWeights weights,
                                     LoadedModel& loaded) {
  ASSIGN_OR_RETURN(const Isa isa, ChooseIsa());
  const Precision precision = flags.activation_dtype.value_or(FastestPrecision(isa));
  const int num_threads = flags.threads > 0 ? flags.threads : NumCores();
  loaded.pool = std::make_unique<ThreadPool>(num_threads);
  if (flags.weight_dtype.has_value()) Quantize(*flags.weight_dtype, *loaded.pool, weights);
  Placement placement{.device = "cpu",
                      .on = absl::StrCat(Name(isa), " on ", num_threads, " threads"),
                      .weight_dtype = Name(weights.layers[0].experts[0].w1.dtype),
                      .precision = precision};
  const int64_t kv_cache_tokens = KvCacheTokens(flags, weights.config, precision);
  ASSIGN_OR_RETURN(
      loaded.model,
      MixtralModel::Create(
          std::move(weights),
          CreateCpuOps({.pool = loaded.pool.get(), .precision = precision, .isa = isa}),
          {.kv_cache_tokens = kv_cache_tokens, .block_size = flags.block_size}));
  return placement;
}

ServedModel Describe(const ServerFlags& flags, const ModelConfig& config,
                     const Placement& placement, const LoadedModel& loaded) {
  const ModelDimensions& dims = loaded.model->dimensions();
  ServedModel info;
  info.folder = FolderOf(flags.model_dir).string();
  info.name = FolderOf(flags.model_dir).filename().string();
  info.architecture = config.architecture;
  info.weight_dtype = placement.weight_dtype;
  info.activation_dtype =
      Name(placement.precision == Precision::kFloat32 ? DType::kFloat32 : DType::kBFloat16);
  info.device = placement.device;
  info.server_version = ADAMOE_VERSION;
  info.vocab_size = config.vocab_size;
  info.num_layers = config.num_layers;
  info.num_experts = config.num_experts;
  info.num_null_experts = config.num_null_experts;
  info.experts_per_token = config.experts_per_token;
  info.max_context_tokens = dims.max_context_tokens;
  info.kv_block_size = dims.kv_block_size;
  info.max_running_requests = flags.max_running_requests;
  info.prefix_cache_block_size = flags.prefix_caching ? flags.block_size : 0;
  info.max_text_bytes = MaxTextBytes(*loaded.tokenizer, dims.max_context_tokens);
  info.bos_token_id = config.bos_token_id;
  info.eos_token_ids = config.eos_token_ids;
  info.flops = {dims.flops_per_slot, static_cast<uint32_t>(dims.experts_per_token),
                flags.baseline_experts_per_token};
  return info;
}

void LogLoaded(const ServedModel& info, const ModelDimensions& dims, const std::string& on,
               absl::Duration duration) {
  spdlog::info(
      "loaded {} ({}) in {}: {} layers, {} experts and {} null ones, {} picks, {} weights, {} "
      "activations, {}",
      info.name, info.architecture,
      absl::FormatDuration(absl::Trunc(duration, absl::Milliseconds(1))), info.num_layers,
      info.num_experts, info.num_null_experts, info.experts_per_token, info.weight_dtype,
      info.activation_dtype, on);
  spdlog::info("KV cache: {} tokens in {} blocks of {}; contexts of at most {} tokens",
               int64_t{dims.num_kv_blocks} * dims.kv_block_size, dims.num_kv_blocks,
               dims.kv_block_size, dims.max_context_tokens);
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const ServerFlags& flags) {
  const absl::Time start = absl::Now();
  LoadedModel loaded;
  ASSIGN_OR_RETURN(const std::optional<Gpu> gpu, ChooseGpu(flags));
  ASSIGN_OR_RETURN(MixtralWeights weights,
                   LoadMixtral({.model_dir = flags.model_dir,
                                .adapter_dir = flags.adapter_dir,
                                .experts_per_token = flags.experts_per_token}));
  ASSIGN_OR_RETURN(loaded.tokenizer, Tokenizer::Load(flags.model_dir));
  if (loaded.tokenizer->vocab_size() > weights.config.vocab_size) {
    spdlog::warn(
        "the tokenizer has {} tokens, the model only {}: text that needs the others is refused",
        loaded.tokenizer->vocab_size(), weights.config.vocab_size);
  }
  const ModelConfig config = weights.config;
  ASSIGN_OR_RETURN(const Placement placement, gpu.has_value()
                                                  ? PlaceOnGpu(flags, *gpu, weights, loaded)
                                                  : PlaceOnCpu(flags, std::move(weights), loaded));
  loaded.info = Describe(flags, config, placement, loaded);
  LogLoaded(loaded.info, loaded.model->dimensions(), placement.on, absl::Now() - start);
  return loaded;
}

}  // namespace adamoe
