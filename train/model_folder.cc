#include "train/model_folder.h"

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/weights/checkpoint_files.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

void AddLayer(const MixtralLayerParameters& layer, const std::string& prefix,
              NamedTensors* tensors) {
  const int64_t q_rows = layer.o_proj.size(1);
  const int64_t kv_rows = (layer.qkv_proj.size(0) - q_rows) / 2;
  const int64_t inner = layer.w2.size(2);
  const auto add = [&](absl::string_view name, const at::Tensor& tensor) {
    tensors->emplace_back(absl::StrCat(prefix, name, ".weight"), tensor);
  };
  add("input_layernorm", layer.input_norm);
  add("post_attention_layernorm", layer.post_attn_norm);
  add("self_attn.q_proj", layer.qkv_proj.narrow(0, 0, q_rows));
  add("self_attn.k_proj", layer.qkv_proj.narrow(0, q_rows, kv_rows));
  add("self_attn.v_proj", layer.qkv_proj.narrow(0, q_rows + kv_rows, kv_rows));
  add("self_attn.o_proj", layer.o_proj);
  add("block_sparse_moe.gate", layer.gate);
  if (layer.gate2.size(0) > 0) add("block_sparse_moe.gate2", layer.gate2);
  for (int64_t j = 0; j < layer.w2.size(0); ++j) {
    const std::string expert = absl::StrCat("block_sparse_moe.experts.", j);
    add(absl::StrCat(expert, ".w1"), layer.w13.select(0, j).narrow(0, 0, inner));
    add(absl::StrCat(expert, ".w2"), layer.w2.select(0, j));
    add(absl::StrCat(expert, ".w3"), layer.w13.select(0, j).narrow(0, inner, inner));
  }
}

// The double that reads as `value` does: 1e-5f as 1e-05, not as 9.999999747378752e-06.
double ShortestDouble(float value) {
  char text[32];
  const std::to_chars_result end = std::to_chars(text, text + sizeof(text), value);
  double shortest = value;
  std::from_chars(text, end.ptr, shortest);
  return shortest;
}

// What both config files say about the tokens that begin and end a text.
void AddTokenIds(const ModelConfig& config, nlohmann::ordered_json* json) {
  if (config.bos_token_id >= 0) (*json)["bos_token_id"] = config.bos_token_id;
  if (config.eos_token_ids.size() == 1) {
    (*json)["eos_token_id"] = config.eos_token_ids[0];
  } else if (!config.eos_token_ids.empty()) {
    (*json)["eos_token_id"] = config.eos_token_ids;
  }
}

at::ScalarType TorchType(DType dtype) {
  return dtype == DType::kFloat32   ? at::kFloat
         : dtype == DType::kFloat16 ? at::kHalf
                                    : at::kBFloat16;
}

// Gives each tensor the type it has in `source`; those that `source` lacks keep theirs.
absl::Status TakeTypes(const CheckpointFiles& source, NamedTensors* tensors) {
  for (auto& [name, tensor] : *tensors) {
    if (!source.Contains(name)) continue;
    ASSIGN_OR_RETURN(const TensorView view, source.Find(name));
    tensor = tensor.to(TorchType(view.dtype));
  }
  return absl::OkStatus();
}

absl::Status CopyGenerationConfig(const std::string& from_dir, const std::string& to_dir) {
  const auto text = ReadTextFile(from_dir + "/generation_config.json");
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  return WriteFileAtomically(to_dir + "/generation_config.json", *text);
}

at::Tensor TensorFrom(const TensorView& view) {
  at::Tensor tensor = at::empty(view.shape, at::kFloat);
  CopyToFloat32(view, 0, view.num_elements(), tensor.mutable_data_ptr<float>());
  return tensor;
}

MixtralLayerParameters LayerFrom(const MixtralLayerWeights& weights) {
  MixtralLayerParameters layer;
  layer.input_norm = TensorFrom(weights.input_norm);
  layer.post_attn_norm = TensorFrom(weights.post_attn_norm);
  layer.qkv_proj =
      at::cat({TensorFrom(weights.q_proj), TensorFrom(weights.k_proj), TensorFrom(weights.v_proj)});
  layer.o_proj = TensorFrom(weights.o_proj);
  layer.gate = TensorFrom(weights.gate);
  layer.gate2 = weights.gate2.data == nullptr ? at::empty({0, layer.gate.size(1)}, at::kFloat)
                                              : TensorFrom(weights.gate2);
  std::vector<at::Tensor> w13;
  std::vector<at::Tensor> w2;
  for (const MixtralLayerWeights::Expert& expert : weights.experts) {
    w13.push_back(at::cat({TensorFrom(expert.w1), TensorFrom(expert.w3)}));
    w2.push_back(TensorFrom(expert.w2));
  }
  layer.w13 = at::stack(w13);
  layer.w2 = at::stack(w2);
  return layer;
}

}  // namespace

const char* DTypeName(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bfloat16" : dtype == at::kHalf ? "float16" : "float32";
}

NamedTensors HuggingFaceTensors(const MixtralParameters& parameters, at::ScalarType dtype) {
  NamedTensors tensors;
  tensors.emplace_back("model.embed_tokens.weight", parameters.embed_tokens);
  for (size_t i = 0; i < parameters.layers.size(); ++i) {
    AddLayer(parameters.layers[i], absl::StrCat("model.layers.", i, "."), &tensors);
  }
  tensors.emplace_back("model.norm.weight", parameters.norm);
  if (parameters.lm_head.defined()) tensors.emplace_back("lm_head.weight", parameters.lm_head);
  for (auto& [name, tensor] : tensors) tensor = tensor.detach().to(dtype).contiguous();
  return tensors;
}

std::string ConfigJson(const ModelConfig& config, at::ScalarType dtype) {
  nlohmann::ordered_json json = {{"architectures", {"MixtralForCausalLM"}},
                                 {"model_type", "mixtral"},
                                 {"vocab_size", config.vocab_size},
                                 {"hidden_size", config.hidden_size},
                                 {"intermediate_size", config.intermediate_size},
                                 {"num_hidden_layers", config.num_layers},
                                 {"num_attention_heads", config.num_heads},
                                 {"num_key_value_heads", config.num_kv_heads},
                                 {"head_dim", config.head_dim},
                                 {"num_local_experts", config.num_experts},
                                 {"num_experts_per_tok", config.experts_per_token},
                                 {"hidden_act", "silu"},
                                 {"max_position_embeddings", config.max_position_embeddings},
                                 {"rms_norm_eps", ShortestDouble(config.rms_norm_eps)},
                                 {"rope_theta", ShortestDouble(config.rope_theta)},
                                 {"tie_word_embeddings", config.tie_word_embeddings},
                                 {"torch_dtype", DTypeName(dtype)}};
  json["sliding_window"] = nullptr;
  if (config.sliding_window > 0) json["sliding_window"] = config.sliding_window;
  AddTokenIds(config, &json);
  return json.dump(2) + "\n";
}

absl::Status WriteModelFolder(const std::string& dir, const ModelConfig& config,
                              const MixtralParameters& parameters, at::ScalarType dtype) {
  nlohmann::ordered_json generation = nlohmann::ordered_json::object();
  AddTokenIds(config, &generation);
  RETURN_IF_ERROR(
      WriteSafetensors(dir + "/model.safetensors", HuggingFaceTensors(parameters, dtype)));
  RETURN_IF_ERROR(WriteFileAtomically(dir + "/generation_config.json", generation.dump(2) + "\n"));
  return WriteFileAtomically(dir + "/config.json", ConfigJson(config, dtype));
}

absl::Status WriteModelFolderLike(const std::string& model_dir, const std::string& dir,
                                  const MixtralParameters& parameters, int32_t experts_per_token) {
  NamedTensors tensors = HuggingFaceTensors(parameters, at::kFloat);
  ASSIGN_OR_RETURN(const auto source, CheckpointFiles::OpenFolder(model_dir));
  RETURN_IF_ERROR(TakeTypes(*source, &tensors));
  const std::string config_path = model_dir + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(config_path));
  nlohmann::ordered_json config =
      nlohmann::ordered_json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(config_path, ": expected a JSON object"));
  }
  config["num_experts_per_tok"] = experts_per_token;
  RETURN_IF_ERROR(WriteSafetensors(dir + "/model.safetensors", tensors));
  RETURN_IF_ERROR(CopyGenerationConfig(model_dir, dir));
  return WriteFileAtomically(dir + "/config.json", config.dump(2) + "\n");
}

absl::Status CheckOtherFolder(const std::string& model_dir, const std::string& out_dir) {
  std::error_code error;
  if (!std::filesystem::equivalent(model_dir, out_dir, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(out_dir, ": is the model's own folder, expected another"));
}

absl::Status CopyTokenizer(const std::string& from_dir, const std::string& to_dir) {
  RETURN_IF_ERROR(MakeFolder(to_dir));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    ASSIGN_OR_RETURN(const std::string content, ReadTextFile(absl::StrCat(from_dir, "/", name)));
    RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(to_dir, "/", name), content));
  }
  return absl::OkStatus();
}

ReferenceModel ReferenceFrom(const MixtralWeights& weights) {
  ReferenceModel model;
  model.config = weights.config;
  model.parameters.embed_tokens = TensorFrom(weights.embed_tokens);
  model.parameters.norm = TensorFrom(weights.norm);
  if (!weights.config.tie_word_embeddings) {
    model.parameters.lm_head = TensorFrom(weights.lm_head);
  }
  for (const MixtralLayerWeights& layer : weights.layers) {
    model.parameters.layers.push_back(LayerFrom(layer));
  }
  return model;
}

absl::StatusOr<ReferenceModel> LoadModelFolder(const std::string& dir) {
  ASSIGN_OR_RETURN(const MixtralWeights weights, LoadMixtral({.model_dir = dir}));
  return ReferenceFrom(weights);
}

}  // namespace adamoe
