#include "server/cuda/forward_pass.h"

#include <algorithm>

#include "server/base/status_macros.h"
#include "server/cuda/gpu.h"
#include "server/kernels/cuda/experts.h"

namespace adamoe::cuda {
namespace {

// ENQUEUE(RmsNorm, args, stream): returns early, naming the kernel, when it cannot be launched.
#define ENQUEUE(kernel, ...) RETURN_IF_ERROR(CudaStatus(#kernel, kernel(__VA_ARGS__)))

template <typename T>
const T* As(const std::byte* memory) {
  return reinterpret_cast<const T*>(memory);
}

}  // namespace

ForwardPass::ForwardPass(const ModelConfig& config, const Memory& memory,
                         const StepBuffers& buffers, int32_t num_multiprocessors,
                         DenseLinear* linear)
    : config_(config),
      buffers_(buffers),
      num_multiprocessors_(num_multiprocessors),
      linear_(linear),
      inverse_frequency_(memory.inverse_frequency) {
  const WeightLayout layout = LayOutWeights(config);
  embed_tokens_ = As<Bf16>(memory.weights + layout.embed_tokens);
  norm_ = As<float>(memory.weights + layout.norm);
  lm_head_ = As<Bf16>(memory.weights + layout.lm_head);
  const int64_t cache_elements =
      int64_t{memory.num_kv_blocks} * memory.block_size * config.num_kv_heads * config.head_dim;
  Bf16* cache = reinterpret_cast<Bf16*>(memory.kv_cache);
  for (const LayerLayout& layer : layout.layers) {
    layers_.push_back({.input_norm = As<float>(memory.weights + layer.input_norm),
                       .qkv_proj = As<Bf16>(memory.weights + layer.qkv_proj),
                       .o_proj = As<Bf16>(memory.weights + layer.o_proj),
                       .post_attn_norm = As<float>(memory.weights + layer.post_attn_norm),
                       .router = As<float>(memory.weights + layer.router),
                       .w1 = As<Bf16>(memory.weights + layer.w1),
                       .w3 = As<Bf16>(memory.weights + layer.w3),
                       .w2 = As<Bf16>(memory.weights + layer.w2),
                       .cache = {.keys = cache,
                                 .values = cache + cache_elements,
                                 .block_size = memory.block_size,
                                 .num_kv_heads = config.num_kv_heads,
                                 .head_dim = config.head_dim}});
    cache += 2 * cache_elements;
  }
}

absl::Status ForwardPass::EnqueueLayers(const Step& step, cudaStream_t stream) const {
  const int32_t num_tokens = step.shape.num_tokens;
  const InputLayout inputs(step.shape);
  const DeviceRouting routing =
      PlaceRouting(buffers_.routing, num_tokens, config_.num_experts, config_.experts_per_token);
  RmsNormArgs norm{.residual = buffers_.residual,
                   .weight = layers_[0].input_norm,
                   .eps = config_.rms_norm_eps,
                   .num_rows = num_tokens,
                   .hidden = config_.hidden_size,
                   .normed = buffers_.normed};
  ENQUEUE(Embed, embed_tokens_, As<int32_t>(Input(inputs.token_ids)), num_tokens,
          config_.hidden_size, buffers_.residual, stream);
  ENQUEUE(RmsNorm, norm, stream);
  for (int32_t i = 0; i < config_.num_layers; ++i) {
    RETURN_IF_ERROR(EnqueueAttention(layers_[i], step, stream));
    norm.weight = layers_[i].post_attn_norm;
    norm.normed = buffers_.normed;
    norm.normed_float32 = buffers_.normed_float32;
    ENQUEUE(RmsNorm, norm, stream);
    RETURN_IF_ERROR(EnqueueExperts(i, step, routing, stream));
    // The experts' output, and the next layer's first norm.
    const bool last = i + 1 == config_.num_layers;
    norm.weight = last ? norm_ : layers_[i + 1].input_norm;
    norm.normed = last ? nullptr : buffers_.normed;
    norm.normed_float32 = nullptr;
    ENQUEUE(CombineRmsNorm, routing, buffers_.rows_out, norm, stream);
  }
  return absl::OkStatus();
}

absl::Status ForwardPass::EnqueueAttention(const Layer& layer, const Step& step,
                                           cudaStream_t stream) const {
  const StepShape& shape = step.shape;
  const InputLayout inputs(shape);
  const int32_t queries = config_.num_heads * config_.head_dim;
  const int32_t qkv = queries + 2 * config_.num_kv_heads * config_.head_dim;
  RETURN_IF_ERROR(linear_->Run({.x = buffers_.normed,
                                .w = layer.qkv_proj,
                                .y = buffers_.qkv,
                                .num_rows = shape.num_tokens,
                                .inputs = config_.hidden_size,
                                .outputs = qkv,
                                .output = DenseLinear::Output::kFloat32},
                               stream));
  const RopeAppendArgs append{.qkv = buffers_.qkv,
                              .positions = As<int32_t>(Input(inputs.positions)),
                              .slots = As<int32_t>(Input(inputs.kv_slots)),
                              .inverse_frequency = inverse_frequency_,
                              .num_tokens = shape.num_tokens,
                              .num_heads = config_.num_heads,
                              .cache = layer.cache};
  ENQUEUE(RopeAppendKv, append, stream);
  const AttentionArgs attention{.queries = buffers_.qkv,
                                .query_stride = qkv,
                                .num_heads = config_.num_heads,
                                .cache = layer.cache,
                                .positions = append.positions,
                                .block_tables = As<int32_t>(Input(inputs.block_tables)),
                                .max_blocks = shape.max_blocks,
                                .sliding_window = config_.sliding_window,
                                .out = buffers_.attended};
  if (shape.num_decode_work > 0) {
    const int32_t splits = ChooseSplits(shape.num_decode_work, config_.num_kv_heads,
                                        step.max_context, num_multiprocessors_);
    const size_t workspace =
        AttentionWorkspaceBytes(shape.num_decode_work, config_.num_heads, config_.head_dim, splits);
    if (workspace > static_cast<size_t>(buffers_.attention_workspace_bytes)) {
      return absl::InternalError("AttendDecode: the workspace was planned too small");
    }
    ENQUEUE(AttendDecode, attention, As<AttentionWork>(Input(inputs.decode_work)),
            shape.num_decode_work, splits, buffers_.attention_workspace, stream);
  }
  if (shape.num_prefill_work > 0) {
    ENQUEUE(AttendPrefill, attention, As<AttentionWork>(Input(inputs.prefill_work)),
            shape.num_prefill_work, stream);
  }
  return linear_->Run({.x = buffers_.attended,
                       .w = layer.o_proj,
                       .y = buffers_.residual,
                       .num_rows = shape.num_tokens,
                       .inputs = queries,
                       .outputs = config_.hidden_size,
                       .output = DenseLinear::Output::kFloat32Add},
                      stream);
}

absl::Status ForwardPass::EnqueueExperts(int32_t layer, const Step& step,
                                         const DeviceRouting& routing, cudaStream_t stream) const {
  const int32_t num_tokens = step.shape.num_tokens;
  const Layer& weights = layers_[layer];
  const InputLayout inputs(step.shape);
  const CountLayout counts(num_tokens, config_.num_layers, config_.num_experts);
  uint8_t* const slots = reinterpret_cast<uint8_t*>(buffers_.counts);
  ENQUEUE(RouterLogits, buffers_.normed_float32, weights.router, num_tokens, config_.hidden_size,
          config_.num_experts + config_.num_null_experts, buffers_.router_logits, stream);
  const RouteArgs route{.logits = buffers_.router_logits,
                        .null_bias = As<float>(Input(inputs.null_bias)),
                        .max_experts = As<uint32_t>(Input(inputs.max_experts)),
                        .num_valid_tokens = As<int32_t>(Input(inputs.num_valid_tokens)),
                        .num_null_experts = config_.num_null_experts,
                        .experts_per_token = config_.experts_per_token,
                        .null_slots = slots + counts.null_slots + layer,
                        .dropped = slots + counts.dropped + layer,
                        .slot_stride = config_.num_layers};
  ENQUEUE(Route, route, routing, stream);
  uint32_t* const expert_rows = reinterpret_cast<uint32_t*>(buffers_.counts + counts.expert_rows);
  const ExpertsArgs experts{.hidden = config_.hidden_size,
                            .intermediate = config_.intermediate_size,
                            .w1 = weights.w1,
                            .w3 = weights.w3,
                            .w2 = weights.w2,
                            .x = buffers_.normed,
                            .inner = buffers_.inner,
                            .rows_out = buffers_.rows_out,
                            .executed = slots + counts.executed + layer,
                            .slot_stride = config_.num_layers,
                            .expert_rows = expert_rows + int64_t{layer} * config_.num_experts};
  if (num_tokens <= kDecodeExpertsMaxTokens) {
    ENQUEUE(ExpertsDecode, experts, routing, stream);
  } else {
    ENQUEUE(ExpertsPrefill, experts, routing, GemmInstruction::kWgmma, stream);
  }
  return absl::OkStatus();
}

absl::Status ForwardPass::EnqueueLogits(const StepShape& shape, int32_t begin, int32_t count,
                                        cudaStream_t stream) const {
  const InputLayout inputs(shape);
  const RmsNormArgs norm{.residual = buffers_.residual,
                         .weight = norm_,
                         .eps = config_.rms_norm_eps,
                         .num_rows = count,
                         .hidden = config_.hidden_size,
                         .rows = As<int32_t>(Input(inputs.logit_rows)) + begin,
                         .normed = buffers_.logits_normed};
  ENQUEUE(RmsNorm, norm, stream);
  return linear_->Run({.x = buffers_.logits_normed,
                       .w = lm_head_,
                       .y = buffers_.logits,
                       .num_rows = count,
                       .inputs = config_.hidden_size,
                       .outputs = config_.vocab_size,
                       .output = DenseLinear::Output::kFloat32},
                      stream);
}

}  // namespace adamoe::cuda
