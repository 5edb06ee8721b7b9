#include "tests/fakes/checkpoint_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/weights/tensor_table.h"
#include "tests/fakes/safetensors_writer.h"

namespace adamoe {
namespace {

using nlohmann::ordered_json;

// SplitMix64 of a position: values do not depend on how they are asked for.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t Hash(const std::string& name, uint64_t seed) {
  uint64_t hash = Mix(seed);
  for (unsigned char c : name) hash = Mix(hash ^ c);
  return hash;
}

// Uniform values of mean `mean` and standard deviation `deviation`.
FillFn Uniform(uint64_t seed) {
  return [seed](const NewTensor& tensor, int64_t begin, int64_t count, float* out) {
    const uint64_t stream = Hash(tensor.name, seed);
    const bool is_norm = absl::StrContains(tensor.name, "norm");
    const bool is_embedding = absl::StrContains(tensor.name, "embed_tokens");
    const float mean = is_norm ? 1.0f : 0.0f;
    const float deviation = is_norm        ? 0.1f
                            : is_embedding ? 1.0f
                                           : 1.0f / std::sqrt(static_cast<float>(tensor.shape[1]));
    const float scale = 2.0f * std::sqrt(3.0f) * deviation * 0x1p-32f;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = begin + i;
      const uint64_t bits = Mix(stream + static_cast<uint64_t>(position));
      out[i] = mean + scale * static_cast<float>(static_cast<int32_t>(bits >> 32));
    }
  };
}

std::string Join(const std::string& dir, const std::string& name) {
  return (std::filesystem::path(dir) / name).string();
}

absl::Status CreateFolder(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (!error) return absl::OkStatus();
  return absl::UnknownError(absl::StrCat(dir, ": ", error.message()));
}

// Consecutive tensors in shards of about the same number of tensors, and the index of them.
absl::Status WriteShards(const std::vector<NewTensor>& tensors, int32_t num_shards,
                         const FillFn& fill, const std::string& dir) {
  ordered_json weight_map = ordered_json::object();
  const size_t count = tensors.size();
  for (int32_t shard = 0; shard < num_shards; ++shard) {
    const size_t begin = count * shard / num_shards;
    const size_t end = count * (shard + 1) / num_shards;
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors", shard + 1, num_shards);
    const std::vector<NewTensor> part(tensors.begin() + static_cast<std::ptrdiff_t>(begin),
                                      tensors.begin() + static_cast<std::ptrdiff_t>(end));
    for (const NewTensor& tensor : part) weight_map[tensor.name] = name;
    RETURN_IF_ERROR(WriteSafetensors(Join(dir, name), part, fill));
  }
  const ordered_json index = {{"metadata", ordered_json::object()}, {"weight_map", weight_map}};
  return WriteTextFile(Join(dir, "model.safetensors.index.json"), index.dump(2));
}

ordered_json IntOrNull(int32_t value, bool is_null) {
  return is_null ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json EosJson(const ModelConfig& c) {
  if (c.eos_token_ids.size() == 1) return c.eos_token_ids[0];
  return c.eos_token_ids.empty() ? ordered_json(nullptr) : ordered_json(c.eos_token_ids);
}

}  // namespace

ModelConfig SmallConfig() {
  ModelConfig c;
  c.architecture = "MixtralForCausalLM";
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 8;
  c.num_experts = 4;
  c.num_null_experts = 2;
  c.experts_per_token = 3;
  c.vocab_size = 300;
  c.max_position_embeddings = 512;
  c.rope_theta = 10000.0f;
  c.bos_token_id = 1;
  c.eos_token_ids = {2};
  return c;
}

std::string ConfigJson(const CheckpointOptions& options) {
  const ModelConfig& c = options.config;
  ordered_json json = {
      {"architectures", {c.architecture}},
      {"model_type", "mixtral"},
      {"hidden_act", "silu"},
      {"hidden_size", c.hidden_size},
      {"intermediate_size", c.intermediate_size},
      {"num_hidden_layers", c.num_layers},
      {"num_attention_heads", c.num_heads},
      {"num_key_value_heads", c.num_kv_heads},
      {"head_dim", c.head_dim},
      {"num_local_experts", c.num_experts},
      {"num_experts_per_tok", c.experts_per_token},
      {"vocab_size", c.vocab_size},
      {"max_position_embeddings", c.max_position_embeddings},
      {"rms_norm_eps", c.rms_norm_eps},
      {"sliding_window", IntOrNull(c.sliding_window, c.sliding_window == 0)},
      {"tie_word_embeddings", c.tie_word_embeddings},
      {"bos_token_id", IntOrNull(c.bos_token_id, c.bos_token_id < 0)},
      {"eos_token_id", EosJson(c)},
  };
  if (options.new_style_config) {
    json["rope_parameters"] = {{"rope_theta", c.rope_theta}, {"rope_type", "default"}};
    json["dtype"] = Name(options.dtype);
  } else {
    json["rope_theta"] = c.rope_theta;
    json["torch_dtype"] = Name(options.dtype);
  }
  return json.dump(2) + "\n";
}

absl::Status WriteCheckpoint(const CheckpointOptions& options, const std::string& dir) {
  RETURN_IF_ERROR(CreateFolder(dir));
  RETURN_IF_ERROR(WriteTextFile(Join(dir, "config.json"), ConfigJson(options)));
  const ordered_json generation = {
      {"bos_token_id", IntOrNull(options.config.bos_token_id, options.config.bos_token_id < 0)},
      {"eos_token_id", EosJson(options.config)}};
  RETURN_IF_ERROR(WriteTextFile(Join(dir, "generation_config.json"), generation.dump(2) + "\n"));
  std::vector<NewTensor> tensors;
  for (const TensorSpec& spec : MixtralTensors(options.config)) {
    tensors.push_back({spec.name, options.dtype, spec.shape});
  }
  const FillFn fill = Uniform(options.seed);
  if (options.num_shards > 1) return WriteShards(tensors, options.num_shards, fill, dir);
  return WriteSafetensors(Join(dir, "model.safetensors"), tensors, fill);
}

absl::Status WriteAdapter(const AdapterOptions& options, const std::string& dir) {
  RETURN_IF_ERROR(CreateFolder(dir));
  const ordered_json config = {{"peft_type", "LORA"},
                               {"r", options.rank},
                               {"lora_alpha", options.lora_alpha},
                               {"target_modules", options.targets},
                               {"bias", "none"},
                               {"use_rslora", false},
                               {"use_dora", false},
                               {"rank_pattern", ordered_json::object()},
                               {"alpha_pattern", ordered_json::object()}};
  RETURN_IF_ERROR(WriteTextFile(Join(dir, "adapter_config.json"), config.dump(2) + "\n"));
  std::vector<NewTensor> tensors;
  for (const TensorSpec& spec : MixtralTensors(options.config)) {
    const std::string layer(absl::StripSuffix(spec.name, ".weight"));
    const std::string target = layer.substr(layer.rfind('.') + 1);
    if (std::count(options.targets.begin(), options.targets.end(), target) == 0) continue;
    const std::string prefix = absl::StrCat("base_model.model.", layer);
    tensors.push_back({prefix + ".lora_A.weight", options.dtype, {options.rank, spec.shape[1]}});
    tensors.push_back({prefix + ".lora_B.weight", options.dtype, {spec.shape[0], options.rank}});
  }
  return WriteSafetensors(Join(dir, "adapter_model.safetensors"), tensors, Uniform(options.seed));
}

}  // namespace adamoe
