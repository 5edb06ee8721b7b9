#include "server/loaded_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/dtype.h"
#include "server/base/status_macros.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/machine.h"
#include "server/model/mixtral_model.h"
#include "server/model/quantize.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {
namespace {

// The folder's last path component.
std::string NameOf(const std::string& model_dir) {
  const std::filesystem::path path = std::filesystem::absolute(model_dir).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
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

ServedModel Describe(const ServerFlags& flags, const MixtralWeights& weights, Precision precision) {
  const ModelConfig& config = weights.config;
  ServedModel info;
  info.name = NameOf(flags.model_dir);
  info.architecture = config.architecture;
  info.weight_dtype = Name(weights.layers[0].experts[0].w1.dtype);
  info.activation_dtype =
      Name(precision == Precision::kFloat32 ? DType::kFloat32 : DType::kBFloat16);
  info.device = "cpu";
  info.server_version = ADAMOE_VERSION;
  info.vocab_size = config.vocab_size;
  info.num_layers = config.num_layers;
  info.num_experts = config.num_experts;
  info.num_null_experts = config.num_null_experts;
  info.experts_per_token = config.experts_per_token;
  info.prefix_cache_block_size = flags.prefix_caching ? flags.block_size : 0;
  info.eos_token_ids = config.eos_token_ids;
  return info;
}

void LogLoaded(const ServedModel& info, const ModelDimensions& dims, const char* isa, int threads,
               absl::Duration duration) {
  spdlog::info(
      "loaded {} ({}) in {}: {} layers, {} experts and {} null ones, {} picks, {} weights, {} "
      "activations, {} on {} threads",
      info.name, info.architecture,
      absl::FormatDuration(absl::Trunc(duration, absl::Milliseconds(1))), info.num_layers,
      info.num_experts, info.num_null_experts, info.experts_per_token, info.weight_dtype,
      info.activation_dtype, isa, threads);
  spdlog::info("KV cache: {} tokens in {} blocks of {}; contexts of at most {} tokens",
               int64_t{dims.num_kv_blocks} * dims.kv_block_size, dims.num_kv_blocks,
               dims.kv_block_size, dims.max_context_tokens);
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const ServerFlags& flags) {
  const absl::Time start = absl::Now();
  LoadedModel loaded;
  ASSIGN_OR_RETURN(const Isa isa, ChooseIsa());
  const Precision precision = flags.activation_dtype.value_or(FastestPrecision(isa));
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
  const int num_threads = flags.threads > 0 ? flags.threads : NumCores();
  loaded.pool = std::make_unique<ThreadPool>(num_threads);
  if (flags.weight_dtype.has_value()) Quantize(*flags.weight_dtype, *loaded.pool, weights);
  loaded.info = Describe(flags, weights, precision);
  const int64_t kv_cache_tokens = KvCacheTokens(flags, weights.config, precision);
  ASSIGN_OR_RETURN(
      loaded.model,
      MixtralModel::Create(
          std::move(weights),
          CreateCpuOps({.pool = loaded.pool.get(), .precision = precision, .isa = isa}),
          {.kv_cache_tokens = kv_cache_tokens, .block_size = flags.block_size}));
  const ModelDimensions& dims = loaded.model->dimensions();
  loaded.info.max_context_tokens = dims.max_context_tokens;
  loaded.info.max_text_bytes = MaxTextBytes(*loaded.tokenizer, dims.max_context_tokens);
  loaded.info.flops = {dims.flops_per_slot, static_cast<uint32_t>(dims.experts_per_token),
                       flags.baseline_experts_per_token};
  LogLoaded(loaded.info, dims, Name(isa), num_threads, absl::Now() - start);
  return loaded;
}

}  // namespace adamoe
