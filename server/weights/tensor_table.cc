#include "server/weights/tensor_table.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

std::vector<int64_t> ShapeOf(TensorRole role, const ModelConfig& c) {
  const int64_t hidden = c.hidden_size;
  const int64_t q_rows = int64_t{c.num_heads} * c.head_dim;
  const int64_t kv_rows = int64_t{c.num_kv_heads} * c.head_dim;
  switch (role) {
    case TensorRole::kEmbedTokens:
    case TensorRole::kLmHead:
      return {c.vocab_size, hidden};
    case TensorRole::kInputNorm:
    case TensorRole::kPostAttnNorm:
    case TensorRole::kNorm:
      return {hidden};
    case TensorRole::kQProj:
      return {q_rows, hidden};
    case TensorRole::kKProj:
    case TensorRole::kVProj:
      return {kv_rows, hidden};
    case TensorRole::kOProj:
      return {hidden, q_rows};
    case TensorRole::kGate:
      return {c.num_experts, hidden};
    case TensorRole::kGate2:
      return {c.num_null_experts, hidden};
    case TensorRole::kW1:
    case TensorRole::kW3:
      return {c.intermediate_size, hidden};
    case TensorRole::kW2:
      return {hidden, c.intermediate_size};
  }
  return {};
}

std::string NameOf(TensorRole role, int32_t layer, int32_t expert) {
  const auto in_layer = [&](const char* rest) {
    return absl::StrCat("model.layers.", layer, ".", rest, ".weight");
  };
  const auto in_expert = [&](const char* rest) {
    return absl::StrCat("model.layers.", layer, ".block_sparse_moe.experts.", expert, ".", rest,
                        ".weight");
  };
  switch (role) {
    case TensorRole::kEmbedTokens:
      return "model.embed_tokens.weight";
    case TensorRole::kInputNorm:
      return in_layer("input_layernorm");
    case TensorRole::kQProj:
      return in_layer("self_attn.q_proj");
    case TensorRole::kKProj:
      return in_layer("self_attn.k_proj");
    case TensorRole::kVProj:
      return in_layer("self_attn.v_proj");
    case TensorRole::kOProj:
      return in_layer("self_attn.o_proj");
    case TensorRole::kPostAttnNorm:
      return in_layer("post_attention_layernorm");
    case TensorRole::kGate:
      return in_layer("block_sparse_moe.gate");
    case TensorRole::kGate2:
      return in_layer("block_sparse_moe.gate2");
    case TensorRole::kW1:
      return in_expert("w1");
    case TensorRole::kW2:
      return in_expert("w2");
    case TensorRole::kW3:
      return in_expert("w3");
    case TensorRole::kNorm:
      return "model.norm.weight";
    case TensorRole::kLmHead:
      return "lm_head.weight";
  }
  return "";
}

}  // namespace

TensorSpec SpecOf(TensorRole role, const ModelConfig& config, int32_t layer, int32_t expert) {
  return {role, layer, expert, NameOf(role, layer, expert), ShapeOf(role, config)};
}

absl::Status ForEachTensor(const ModelConfig& config,
                           absl::FunctionRef<absl::Status(TensorSpec spec)> visit) {
  using enum TensorRole;
  RETURN_IF_ERROR(visit(SpecOf(kEmbedTokens, config)));
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (TensorRole role : {kInputNorm, kQProj, kKProj, kVProj, kOProj, kPostAttnNorm, kGate}) {
      RETURN_IF_ERROR(visit(SpecOf(role, config, layer)));
    }
    if (config.num_null_experts > 0) RETURN_IF_ERROR(visit(SpecOf(kGate2, config, layer)));
    for (int32_t expert = 0; expert < config.num_experts; ++expert) {
      for (TensorRole role : {kW1, kW2, kW3}) {
        RETURN_IF_ERROR(visit(SpecOf(role, config, layer, expert)));
      }
    }
  }
  RETURN_IF_ERROR(visit(SpecOf(kNorm, config)));
  return config.tie_word_embeddings ? absl::OkStatus() : visit(SpecOf(kLmHead, config));
}

std::vector<TensorSpec> MixtralTensors(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  ForEachTensor(config, [&](TensorSpec spec) {
    specs.push_back(std::move(spec));
    return absl::OkStatus();
  }).IgnoreError();
  return specs;
}

bool TakesAdapter(TensorRole role) {
  switch (role) {
    case TensorRole::kEmbedTokens:
    case TensorRole::kInputNorm:
    case TensorRole::kPostAttnNorm:
    case TensorRole::kNorm:
    case TensorRole::kLmHead:
      return false;
    default:
      return true;
  }
}

bool IsDerivedTensor(const std::string& name) {
  return absl::EndsWith(name, ".rotary_emb.inv_freq");
}

}  // namespace adamoe
