// What the host works out before it launches: limits, sizes, and the cutting of batches.
#include <algorithm>

#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/attention_index.h"
#include "server/kernels/cuda/cuda_types.h"
#include "server/kernels/cuda/router.h"

namespace adamoe::cuda {
namespace {

constexpr size_t kAlignment = 256;

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Hands out aligned pieces of a piece of memory, or of none to add sizes up.
class Placer {
 public:
  explicit Placer(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* Place(int64_t count) {
    T* place = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + num_bytes_);
    num_bytes_ += Aligned(sizeof(T) * static_cast<size_t>(count));
    return place;
  }
  size_t num_bytes() const { return num_bytes_; }

 private:
  char* const memory_;
  size_t num_bytes_ = 0;
};

DeviceRouting Place(Placer* placer, int32_t num_tokens, int32_t num_experts,
                    int32_t experts_per_token) {
  DeviceRouting routing;
  routing.num_tokens = num_tokens;
  routing.num_experts = num_experts;
  routing.max_picks = std::min(experts_per_token, num_experts);
  const int64_t max_rows = int64_t{num_tokens} * routing.max_picks;
  routing.expert_begin = placer->Place<int32_t>(num_experts + 1);
  routing.active_experts = placer->Place<int32_t>(num_experts);
  routing.num_active_experts = placer->Place<int32_t>(1);
  routing.row_token = placer->Place<int32_t>(max_rows);
  routing.row_weight = placer->Place<float>(max_rows);
  routing.token_rows = placer->Place<int32_t>(max_rows);
  routing.num_token_rows = placer->Place<int32_t>(num_tokens);
  routing.kept_experts = placer->Place<uint64_t>(num_tokens);
  routing.kept_weights = placer->Place<float>(max_rows);
  return routing;
}

}  // namespace

const char* UnsupportedBecause(const ModelShape& shape) {
  if (shape.hidden < 8 || shape.hidden % 8 != 0 || shape.hidden > kMaxHidden) {
    return "hidden_size must be a multiple of 8 up to 16384";
  }
  if (shape.intermediate < 8 || shape.intermediate % 8 != 0) {
    return "intermediate_size must be a multiple of 8";
  }
  if (shape.head_dim < 8 || shape.head_dim % 8 != 0 || shape.head_dim > kMaxHeadDim) {
    return "head_dim must be a multiple of 8 up to 256";
  }
  if (shape.num_kv_heads < 1 || shape.num_heads < 1 || shape.num_heads % shape.num_kv_heads != 0) {
    return "num_attention_heads must be a multiple of num_key_value_heads";
  }
  if (shape.num_experts < 1 || shape.num_experts > kMaxTrueExperts) {
    return "num_local_experts must be 1 to 64";
  }
  if (shape.num_null_experts < 0 || shape.num_null_experts > kMaxNullExperts) {
    return "the number of null experts must be at most 64";
  }
  if (shape.experts_per_token < 1 ||
      shape.experts_per_token > shape.num_experts + shape.num_null_experts) {
    return "num_experts_per_tok must be 1 to the number of true and null experts";
  }
  return nullptr;
}

size_t RoutingBytes(int32_t num_tokens, int32_t num_experts, int32_t experts_per_token) {
  Placer placer(nullptr);
  Place(&placer, num_tokens, num_experts, experts_per_token);
  return placer.num_bytes();
}

DeviceRouting PlaceRouting(void* memory, int32_t num_tokens, int32_t num_experts,
                           int32_t experts_per_token) {
  Placer placer(memory);
  return Place(&placer, num_tokens, num_experts, experts_per_token);
}

bool PrefillSupports(int32_t num_heads, int32_t num_kv_heads, int32_t head_dim) {
  return (head_dim == 32 || head_dim == 64 || head_dim == 128) &&
         num_heads / num_kv_heads <= kAttentionTileRows;
}

int32_t PrefillTileTokens(int32_t num_heads, int32_t num_kv_heads) {
  return kAttentionTileRows / (num_heads / num_kv_heads);
}

void PlanAttention(const int32_t* token_begin, int32_t num_sequences, int32_t num_heads,
                   int32_t num_kv_heads, int32_t head_dim, AttentionPlan* plan) {
  plan->decode.clear();
  plan->prefill.clear();
  const bool tiles = PrefillSupports(num_heads, num_kv_heads, head_dim);
  const int32_t tile_tokens = tiles ? PrefillTileTokens(num_heads, num_kv_heads) : 1;
  for (int32_t s = 0; s < num_sequences; ++s) {
    const int32_t end = token_begin[s + 1];
    const bool chunk = tiles && end - token_begin[s] > 1;
    for (int32_t t = token_begin[s]; t < end; t += tile_tokens) {
      const int32_t num_tokens = chunk ? std::min(tile_tokens, end - t) : 1;
      (chunk ? plan->prefill : plan->decode).push_back({t, num_tokens, s});
    }
  }
}

int32_t ChooseSplits(int32_t num_work, int32_t num_kv_heads, int32_t max_context,
                     int32_t num_multiprocessors) {
  constexpr int64_t kBlocksPerMultiprocessor = 4;
  constexpr int64_t kMinKeys = 128;  // of a share; fewer are not worth merging
  const int64_t blocks = std::max<int64_t>(int64_t{num_work} * num_kv_heads, 1);
  const int64_t wanted = kBlocksPerMultiprocessor * num_multiprocessors / blocks;
  const int64_t useful = (int64_t{max_context} + kMinKeys - 1) / kMinKeys;
  return static_cast<int32_t>(std::clamp<int64_t>(std::min(wanted, useful), 1, kMaxSplits));
}

size_t AttentionWorkspaceBytes(int32_t num_work, int32_t num_heads, int32_t head_dim,
                               int32_t num_splits) {
  if (num_splits <= 1) return 0;
  const int64_t num_softmax = PartialOffset(num_work, 0, 0, num_heads, num_splits, 1);
  return sizeof(float) * static_cast<size_t>(num_softmax) * (static_cast<size_t>(head_dim) + 2);
}

}  // namespace adamoe::cuda
