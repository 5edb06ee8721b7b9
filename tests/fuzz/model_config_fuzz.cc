// config.json and generation_config.json: any bytes give a checked config or an INVALID_ARGUMENT
// that names the file.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/weights/model_config.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = adamoe::ParseModelConfig(text, "config.json");
  if (!config.ok()) {
    Require(config.status().code() == absl::StatusCode::kInvalidArgument);
    Require(config.status().message().find("config.json") == 0);
  } else {
    Require(config->num_heads % config->num_kv_heads == 0);
    Require(config->head_dim >= 2 && config->head_dim % 2 == 0);
    Require(config->rope_theta > 0 && config->rms_norm_eps > 0);
    Require(config->bos_token_id < config->vocab_size);
    for (int32_t id : config->eos_token_ids) Require(id >= 0 && id < config->vocab_size);
  }
  adamoe::ModelConfig merged;
  merged.vocab_size = 1000;
  const auto status = adamoe::MergeGenerationConfig(text, "generation_config.json", merged);
  if (status.ok()) {
    for (int32_t id : merged.eos_token_ids) Require(id >= 0 && id < merged.vocab_size);
  }
  return 0;
}
