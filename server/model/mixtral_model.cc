#include "server/model/mixtral_model.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/dimensions.h"
#include "server/model/tensors.h"

namespace adamoe {
namespace {

constexpr int64_t kMaxKvTokens = std::numeric_limits<int32_t>::max() / 2;

absl::Status CheckOptions(const MixtralModel::Options& options, const ModelConfig& config) {
  if (options.block_size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV block size is ", options.block_size, ", expected at least 1"));
  }
  if (options.kv_cache_tokens < 1 || options.kv_cache_tokens > kMaxKvTokens) {
    return absl::InvalidArgumentError(absl::StrCat("kv_cache_tokens is ", options.kv_cache_tokens,
                                                   ", expected 1 to ", kMaxKvTokens));
  }
  if (config.experts_per_token > std::numeric_limits<uint8_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("experts per token is ", config.experts_per_token, ", expected at most 255"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<MixtralModel>> MixtralModel::Create(MixtralWeights weights,
                                                                   std::unique_ptr<Ops> ops,
                                                                   const Options& options) {
  const ModelConfig& config = weights.config;
  RETURN_IF_ERROR(CheckOptions(options, config));
  const int64_t num_blocks =
      (options.kv_cache_tokens + options.block_size - 1) / options.block_size;
  const bool exact = ops->precision() == Precision::kFloat32;
  ASSIGN_OR_RETURN(auto kv_store,
                   KvStore::Create({.num_layers = config.num_layers,
                                    .num_blocks = static_cast<int32_t>(num_blocks),
                                    .block_size = options.block_size,
                                    .num_kv_heads = config.num_kv_heads,
                                    .head_dim = config.head_dim,
                                    .dtype = exact ? DType::kFloat32 : DType::kBFloat16}));
  return std::unique_ptr<MixtralModel>(
      new MixtralModel(std::move(weights), std::move(ops), std::move(kv_store)));
}

MixtralModel::MixtralModel(MixtralWeights weights, std::unique_ptr<Ops> ops,
                           std::unique_ptr<KvStore> kv_store)
    : weights_(std::move(weights)),
      ops_(std::move(ops)),
      kv_store_(std::move(kv_store)),
      dimensions_(DimensionsOf(weights_.config, kv_store_->shape().num_blocks,
                               kv_store_->shape().block_size)),
      final_norm_(ToFloat32(weights_.norm)) {
  for (int32_t i = 0; i < weights_.config.num_layers; ++i) {
    const MixtralLayerWeights& layer = weights_.layers[i];
    layers_.push_back({ToFloat32(layer.input_norm),
                       AttentionBlock(weights_.config, layer, CacheOf(i)),
                       ToFloat32(layer.post_attn_norm), AdamoeBlock(weights_.config, layer)});
  }
}

KvLayer MixtralModel::CacheOf(int32_t layer) const {
  const KvStoreShape& shape = kv_store_->shape();
  return {kv_store_->keys(layer), kv_store_->values(layer), shape.dtype,
          shape.block_size,       shape.num_kv_heads,       shape.head_dim};
}

absl::Status MixtralModel::Forward(const ForwardBatch& batch, ForwardResult* result) {
  const ModelConfig& config = weights_.config;
  RETURN_IF_ERROR(step_.Load(batch, dimensions_, config.sliding_window));
  const int32_t num_tokens = batch.num_tokens();
  const int32_t hidden = config.hidden_size;
  const float eps = config.rms_norm_eps;
  const int64_t size = int64_t{num_tokens} * hidden;
  float* x = Grown(activations_.residual, size);
  float* normed = Grown(activations_.normed, size);
  float* delta = Grown(activations_.delta, size);
  ResizeCounts(num_tokens, result);

  ops_->Embed(AsMatrix(weights_.embed_tokens), batch.token_ids.data(), num_tokens, x);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    const DecoderLayer& layer = layers_[i];
    ops_->RmsNorm(x, layer.attention_norm.data(), eps, num_tokens, hidden, normed);
    layer.attention.Forward(step_, normed, *ops_, activations_, delta);
    ops_->Add(delta, size, x);
    ops_->RmsNorm(x, layer.moe_norm.data(), eps, num_tokens, hidden, normed);
    layer.moe.Forward(step_, normed, *ops_, activations_, delta);
    ops_->Add(delta, size, x);
    RecordSlots(i, result);
  }
  ProjectLogits(x, result);
  return absl::OkStatus();
}

void MixtralModel::ResizeCounts(int32_t num_tokens, ForwardResult* result) const {
  const size_t size = static_cast<size_t>(num_tokens) * dimensions_.num_layers;
  result->executed.resize(size);
  result->null_slots.resize(size);
  result->dropped.resize(size);
  result->expert_rows.resize(static_cast<size_t>(dimensions_.num_layers) * dimensions_.num_experts);
}

void MixtralModel::RecordSlots(int32_t layer, ForwardResult* result) const {
  const Routing& routing = activations_.routing;
  for (int32_t t = 0; t < step_.num_tokens(); ++t) {
    const size_t at = static_cast<size_t>(t) * dimensions_.num_layers + layer;
    result->executed[at] = activations_.executed[t];
    result->null_slots[at] = routing.null_slots[t];
    result->dropped[at] = routing.dropped[t];
  }
  uint32_t* rows = &result->expert_rows[static_cast<size_t>(layer) * dimensions_.num_experts];
  for (int32_t e = 0; e < dimensions_.num_experts; ++e) {
    rows[e] = routing.expert_begin[e + 1] - routing.expert_begin[e];
  }
}

void MixtralModel::ProjectLogits(const float* residual, ForwardResult* result) {
  const std::vector<int32_t>& wanted = step_.batch().logit_rows;
  const int32_t num_rows = static_cast<int32_t>(wanted.size());
  const int32_t hidden = weights_.config.hidden_size;
  result->logits.resize(static_cast<size_t>(num_rows) * dimensions_.vocab_size);
  if (num_rows == 0) return;

  float* rows = Grown(activations_.normed, int64_t{num_rows} * hidden);
  for (int32_t i = 0; i < num_rows; ++i) {
    ops_->RmsNorm(residual + int64_t{wanted[i]} * hidden, final_norm_.data(),
                  weights_.config.rms_norm_eps, 1, hidden, rows + int64_t{i} * hidden);
  }
  ops_->Linear(AsMatrix(weights_.lm_head), rows, num_rows, result->logits.data());
}

}  // namespace adamoe
