#include "server/cuda/step_buffers.h"

#include <algorithm>

#include "server/cuda/decode_graph_key.h"
#include "server/cuda/layout.h"
#include "server/cuda/step_layout.h"
#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/dense_linear.h"
#include "server/kernels/cuda/router.h"

namespace adamoe::cuda {
namespace {

// Logits made at a time where every position of a prompt is asked for.
constexpr int32_t kMinLogitRows = 256;

// Of any step within the limits: the number of splits falls as that of tokens rises.
int64_t AttentionWorkspaceFor(const ModelConfig& config, const StepLimits& limits,
                              int32_t num_multiprocessors) {
  size_t most = 0;
  for (int32_t num_work = 1; num_work <= limits.num_tokens; ++num_work) {
    const int32_t splits =
        ChooseSplits(num_work, config.num_kv_heads, limits.max_context, num_multiprocessors);
    most = std::max(most,
                    AttentionWorkspaceBytes(num_work, config.num_heads, config.head_dim, splits));
  }
  return static_cast<int64_t>(most);
}

}  // namespace

StepLimits LimitsOf(int32_t max_context, int32_t block_size, int32_t max_batch_tokens,
                    int32_t max_sequences) {
  const int32_t sequences = std::min(max_sequences, max_batch_tokens);
  const int32_t padded = PowerOfTwoFrom(std::min(sequences, kMaxGraphTokens));
  const int32_t blocks = std::min((max_context - 1) / block_size + 1, 1 << 30);
  StepLimits limits;
  limits.num_tokens = PaddedRows(std::max(max_batch_tokens, padded));
  limits.num_sequences = std::max(sequences, padded);
  limits.max_blocks = PowerOfTwoFrom(std::max(blocks, kMinGraphBlocks));
  limits.num_logit_rows = PaddedRows(std::max(padded, std::min(max_batch_tokens, kMinLogitRows)));
  limits.max_context = max_context;
  return limits;
}

StepBuffers::StepBuffers(const ModelConfig& config, const StepLimits& limits,
                         int32_t num_multiprocessors, std::byte* memory) {
  const int64_t tokens = limits.num_tokens;
  const int64_t rows = tokens * std::min(config.experts_per_token, config.num_experts);
  const int64_t hidden = config.hidden_size;
  const int64_t head_dim = config.head_dim;
  Layout layout;
  const auto add = [&layout, memory]<typename T>(T*& pointer, int64_t num_elements) {
    const int64_t offset = layout.Add(num_elements * static_cast<int64_t>(sizeof(T)));
    pointer = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(memory) + offset);
  };
  input_bytes = InputLayout({.num_tokens = limits.num_tokens,
                             .num_sequences = limits.num_sequences,
                             .max_blocks = limits.max_blocks,
                             .num_decode_work = limits.num_tokens,
                             .num_prefill_work = limits.num_tokens,
                             .num_logit_rows = limits.num_tokens})
                    .num_bytes;
  count_bytes = CountLayout(limits.num_tokens, config.num_layers, config.num_experts).num_bytes;
  attention_workspace_bytes = AttentionWorkspaceFor(config, limits, num_multiprocessors);

  add(inputs, input_bytes);
  add(counts, count_bytes);
  add(logits, int64_t{limits.num_logit_rows} * config.vocab_size);
  add(residual, tokens * hidden);
  add(normed, tokens * hidden);
  add(normed_float32, tokens * hidden);
  add(qkv, tokens * (config.num_heads + 2 * config.num_kv_heads) * head_dim);
  add(attended, tokens * config.num_heads * head_dim);
  add(router_logits, tokens * (config.num_experts + config.num_null_experts));
  add(routing, static_cast<int64_t>(
                   RoutingBytes(limits.num_tokens, config.num_experts, config.experts_per_token)));
  add(inner, rows * config.intermediate_size);
  add(rows_out, rows * hidden);
  add(logits_normed, limits.num_logit_rows * hidden);
  add(attention_workspace, attention_workspace_bytes);
  add(linear_workspace, DenseLinear::kWorkspaceBytes);
  num_bytes = layout.num_bytes();
}

}  // namespace adamoe::cuda
