// config.json of a Hugging Face Mixtral or AdaMoE folder, checked. Immutable after parsing.
#ifndef ADAMOE_SERVER_WEIGHTS_MODEL_CONFIG_H_
#define ADAMOE_SERVER_WEIGHTS_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace adamoe {

// Bounds on n + m and on k: what the router's index types hold.
inline constexpr int32_t kMaxExperts = 4096;
inline constexpr int32_t kMaxExpertsPerToken = 255;

struct ModelConfig {
  std::string architecture;  // "MixtralForCausalLM"
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t num_experts = 0;  // n
  int32_t num_null_experts =
      0;  // m: no key of config.json carries it, LoadMixtral infers it from the tensors
  int32_t experts_per_token = 0;  // k
  int32_t vocab_size = 0;
  int32_t max_position_embeddings = 0;
  int32_t sliding_window = 0;  // keys a position sees, its own included; 0: all
  float rope_theta = 10000.0f;
  float rms_norm_eps = 1e-5f;
  bool tie_word_embeddings = false;
  int32_t bos_token_id = -1;           // -1: none
  std::vector<int32_t> eos_token_ids;  // may be empty
};

// Parses and checks the text of a config.json. `file` names it in errors. INVALID_ARGUMENT names
// the key, its value and what was expected.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text, const std::string& file);

// Takes what generation_config.json overrides: eos_token_id, when present and not null. Errors as
// above.
absl::Status MergeGenerationConfig(const std::string& text, const std::string& file,
                                   ModelConfig& config);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_MODEL_CONFIG_H_
