// What a missing key means follows transformers' MixtralConfig, except that the dimensions must be
// there.
#include "server/weights/model_config.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/weights/json_reader.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr char kArchitecture[] = "MixtralForCausalLM";
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr double kMaxRopeTheta = 1e30;

int32_t ReadInt(JsonFields& fields, const std::string& key, int64_t min, int64_t max,
                std::optional<int64_t> fallback = std::nullopt) {
  return static_cast<int32_t>(fields.Int(key, min, max, fallback));
}

void CheckArchitecture(JsonFields& fields) {
  const bool has_architectures = fields.Has("architectures");
  if (has_architectures) {
    const json& list = *fields.Find("architectures");
    if (!list.is_array() || list.size() != 1 || list[0] != kArchitecture) {
      fields.Fail("architectures", absl::StrCat("[\"", kArchitecture, "\"]"));
    }
  }
  if (fields.Has("model_type") ? fields.String("model_type", "") != "mixtral"
                               : !has_architectures) {
    fields.Fail("model_type", "\"mixtral\"");
  }
  if (fields.String("hidden_act", "silu") != "silu") fields.Fail("hidden_act", "\"silu\"");
  if (fields.Has("quantization_config")) {
    fields.Fail("quantization_config", "null: only bf16, fp16 and fp32 weights are served");
  }
}

void ReadAttention(JsonFields& fields, ModelConfig& config) {
  config.num_heads = ReadInt(fields, "num_attention_heads", 1, 4096);
  if (fields.Find("num_key_value_heads") == nullptr) {
    fields.Fail("num_key_value_heads", "an integer, or null for num_attention_heads");
  }
  config.num_kv_heads = ReadInt(fields, "num_key_value_heads", 1, 4096, config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.Fail("num_key_value_heads",
                absl::StrCat("a divisor of num_attention_heads, ", config.num_heads));
  }
  if (!fields.Has("head_dim") && config.hidden_size % config.num_heads != 0) {
    fields.Fail("head_dim",
                absl::StrCat("an integer, as num_attention_heads (", config.num_heads,
                             ") does not divide hidden_size (", config.hidden_size, ")"));
  }
  config.head_dim = ReadInt(fields, "head_dim", 2, 4096, config.hidden_size / config.num_heads);
  if (config.head_dim < 2 || config.head_dim % 2 != 0) {
    fields.Fail("head_dim",
                absl::StrCat("an even number of at least 2, as rotary embedding pairs dimensions; "
                             "it is ",
                             config.head_dim));
  }
  config.sliding_window = ReadInt(fields, "sliding_window", 1, kMaxInt32, 0);
}

// Today's rope_parameters, or the rope_theta and rope_scaling of before.
void ReadRope(JsonFields& fields, const std::string& file, ModelConfig& config) {
  constexpr double kDefaultTheta = 1e6;
  double theta = fields.PositiveNumber("rope_theta", kMaxRopeTheta, kDefaultTheta);
  if (fields.Has("rope_scaling")) fields.Fail("rope_scaling", "null");
  if (fields.Has("rope_parameters")) {
    const json& object = *fields.Find("rope_parameters");
    if (!object.is_object()) {
      fields.Fail("rope_parameters", "an object");
      return;
    }
    JsonFields rope(object, file, "rope_parameters.");
    theta = rope.PositiveNumber("rope_theta", kMaxRopeTheta, theta);
    for (const char* key : {"rope_type", "type"}) {
      if (rope.String(key, "default") != "default") rope.Fail(key, "\"default\"");
    }
    if (rope.PositiveNumber("partial_rotary_factor", 1.0, 1.0) != 1.0) {
      rope.Fail("partial_rotary_factor", "1");
    }
    fields.Keep(rope.status());
  }
  config.rope_theta = static_cast<float>(theta);
}

void ReadTokenIds(JsonFields& fields, ModelConfig& config) {
  const int32_t last = config.vocab_size - 1;
  if (fields.Find("bos_token_id") == nullptr) {
    config.bos_token_id = last >= 1 ? 1 : -1;
  } else {
    const std::vector<int32_t> bos = fields.IntOrList("bos_token_id", 0, last);
    if (!bos.empty()) config.bos_token_id = bos.front();
  }
  if (fields.Find("eos_token_id") == nullptr) {
    if (last >= 2) config.eos_token_ids = {2};
  } else {
    config.eos_token_ids = fields.IntOrList("eos_token_id", 0, last);
  }
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text, const std::string& file) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, file));
  JsonFields fields(object, file);
  ModelConfig config;
  config.architecture = kArchitecture;
  CheckArchitecture(fields);
  config.hidden_size = ReadInt(fields, "hidden_size", 1, 1 << 20);
  config.intermediate_size = ReadInt(fields, "intermediate_size", 1, 1 << 24);
  config.num_layers = ReadInt(fields, "num_hidden_layers", 1, 4096);
  ReadAttention(fields, config);
  config.num_experts = ReadInt(fields, "num_local_experts", 1, kMaxExperts);
  config.experts_per_token = ReadInt(fields, "num_experts_per_tok", 1, kMaxExpertsPerToken);
  config.vocab_size = ReadInt(fields, "vocab_size", 1, 1 << 24);
  config.max_position_embeddings = ReadInt(fields, "max_position_embeddings", 1, kMaxInt32);
  config.rms_norm_eps = static_cast<float>(fields.PositiveNumber("rms_norm_eps", 1.0, 1e-5));
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
  ReadRope(fields, file, config);
  ReadTokenIds(fields, config);
  RETURN_IF_ERROR(fields.status());
  return config;
}

absl::Status MergeGenerationConfig(const std::string& text, const std::string& file,
                                   ModelConfig& config) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, file));
  JsonFields fields(object, file);
  if (fields.Has("eos_token_id")) {
    config.eos_token_ids = fields.IntOrList("eos_token_id", 0, config.vocab_size - 1);
  }
  return fields.status();
}

}  // namespace adamoe
