#include "server/cuda/step_buffers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "server/cuda/decode_graph_key.h"
#include "server/cuda/layout.h"
#include "tests/fakes/checkpoint_writer.h"

namespace adamoe::cuda {
namespace {

TEST(StepLimitsTest, HoldEveryPaddedStep) {
  for (const int32_t max_batch : {1, 7, 96, 100, 512, 8192}) {
    for (const int32_t max_sequences : {1, 3, 64, 200, 256, 1000}) {
      const StepLimits limits = LimitsOf(4096, 16, max_batch, max_sequences);
      EXPECT_GE(limits.num_tokens, PaddedRows(max_batch));
      const int32_t decoding = std::min({max_batch, max_sequences, kMaxGraphTokens});
      const int32_t padded = PowerOfTwoFrom(decoding);
      EXPECT_GE(limits.num_tokens, padded);
      EXPECT_GE(limits.num_sequences, padded);
      EXPECT_GE(limits.num_sequences, std::min(max_batch, max_sequences));
      EXPECT_GE(limits.num_logit_rows, padded);
      EXPECT_EQ(limits.num_logit_rows % kRowMultiple, 0);
      EXPECT_EQ(limits.max_blocks, 256);
    }
  }
}

TEST(StepLimitsTest, TakesContextsOfAnyLength) {
  EXPECT_EQ(LimitsOf(1, 16, 8, 8).max_blocks, kMinGraphBlocks);
  EXPECT_EQ(LimitsOf(4097, 16, 8, 8).max_blocks, 512);
  EXPECT_EQ(LimitsOf(INT32_MAX, 1, 8, 8).max_blocks, 1 << 30);
}

TEST(StepBuffersTest, OffsetsWithoutMemoryArePointersWithIt) {
  const ModelConfig config = SmallConfig();
  const StepLimits limits = LimitsOf(512, 16, 64, 8);
  const StepBuffers sizes(config, limits, 4, nullptr);
  std::vector<std::byte> memory(sizes.num_bytes);
  const StepBuffers buffers(config, limits, 4, memory.data());
  EXPECT_EQ(buffers.num_bytes, sizes.num_bytes);
  EXPECT_EQ(buffers.inputs, memory.data());
  EXPECT_EQ(buffers.linear_workspace - memory.data(),
            reinterpret_cast<std::intptr_t>(sizes.linear_workspace));
}

// Writes every buffer to its end, each with a value of its own, and finds them all again.
TEST(StepBuffersTest, BuffersDoNotOverlap) {
  const ModelConfig config = SmallConfig();
  const StepLimits limits = LimitsOf(512, 16, 64, 8);
  const StepBuffers sizes(config, limits, 4, nullptr);
  std::vector<std::byte> memory(sizes.num_bytes);
  const StepBuffers b(config, limits, 4, memory.data());
  const int64_t tokens = limits.num_tokens;
  const int64_t rows = tokens * std::min(config.experts_per_token, config.num_experts);
  const int64_t hidden = config.hidden_size;
  const int64_t heads = config.num_heads;
  const int64_t qkv = (heads + 2 * config.num_kv_heads) * config.head_dim;
  const std::vector<std::pair<void*, int64_t>> pieces = {
      {b.inputs, b.input_bytes},
      {b.counts, b.count_bytes},
      {b.logits, int64_t{4} * limits.num_logit_rows * config.vocab_size},
      {b.residual, 4 * tokens * hidden},
      {b.normed, 2 * tokens * hidden},
      {b.normed_float32, 4 * tokens * hidden},
      {b.qkv, 4 * tokens * qkv},
      {b.attended, 2 * tokens * heads * config.head_dim},
      {b.router_logits, 4 * tokens * (config.num_experts + config.num_null_experts)},
      {b.inner, 2 * rows * config.intermediate_size},
      {b.rows_out, 4 * rows * hidden},
      {b.logits_normed, 2 * limits.num_logit_rows * hidden},
      {b.attention_workspace, b.attention_workspace_bytes}};
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::memset(pieces[i].first, static_cast<int>(i + 1), pieces[i].second);
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto* const bytes = static_cast<const unsigned char*>(pieces[i].first);
    EXPECT_EQ((bytes - reinterpret_cast<unsigned char*>(memory.data())) % Layout::kAlignment, 0);
    if (pieces[i].second == 0) continue;
    EXPECT_EQ(bytes[0], i + 1);
    EXPECT_EQ(bytes[pieces[i].second - 1], i + 1) << "piece " << i;
    EXPECT_LE(bytes + pieces[i].second,
              reinterpret_cast<unsigned char*>(memory.data() + memory.size()));
  }
}

}  // namespace
}  // namespace adamoe::cuda
