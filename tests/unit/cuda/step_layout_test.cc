#include "server/cuda/step_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "server/cuda/layout.h"

namespace adamoe::cuda {
namespace {

using testing::ElementsAre;

// A fresh prompt of 3 tokens, and two that decode.
ForwardBatch MixedBatch() {
  ForwardBatch batch;
  batch.token_ids = {5, 6, 7, 8, 9};
  batch.positions = {0, 1, 2, 20, 40};
  batch.kv_slots = {32, 33, 34, 4, 8};
  batch.null_bias = {0.0f, 0.0f, 0.0f, 1.5f, -2.0f};
  batch.max_experts = {0, 0, 0, 1, 2};
  batch.token_begin = {0, 3, 4, 5};
  batch.context_lens = {3, 21, 41};
  batch.block_tables = {{2}, {0, 7}, {1, 3, 0}};
  batch.logit_rows = {2, 3, 4};
  return batch;
}

template <typename T>
std::vector<T> Read(const std::vector<std::byte>& memory, int64_t offset, int64_t count) {
  const T* const begin = reinterpret_cast<const T*>(memory.data() + offset);
  return std::vector<T>(begin, begin + count);
}

std::vector<std::byte> Written(const ForwardBatch& batch, const AttentionWorkBytes& work,
                               const StepShape& shape) {
  std::vector<std::byte> memory(InputLayout(shape).num_bytes, std::byte{0xee});
  WriteInputs(batch, work, shape, memory.data());
  return memory;
}

TEST(StepLayoutTest, PiecesFollowEachOtherAligned) {
  const InputLayout layout({.num_tokens = 65,
                            .num_sequences = 3,
                            .max_blocks = 3,
                            .num_decode_work = 2,
                            .num_prefill_work = 1,
                            .num_logit_rows = 3});
  const std::vector<int64_t> begins = {
      layout.token_ids,   layout.positions,        layout.kv_slots,    layout.null_bias,
      layout.max_experts, layout.num_valid_tokens, layout.decode_work, layout.prefill_work,
      layout.logit_rows,  layout.block_tables,     layout.num_bytes};
  const std::vector<int64_t> sizes = {260, 260, 260, 260, 260, 4, 24, 12, 12, 36};
  for (size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(begins[i] % Layout::kAlignment, 0);
    EXPECT_GE(begins[i + 1], begins[i] + sizes[i]);
  }
}

TEST(StepLayoutTest, WritesABatchAsItIs) {
  const ForwardBatch batch = MixedBatch();
  const StepShape shape{.num_tokens = 5,
                        .num_sequences = 3,
                        .max_blocks = 3,
                        .num_decode_work = 2,
                        .num_prefill_work = 1,
                        .num_logit_rows = 3};
  std::vector<std::byte> decode(2 * kWorkBytes, std::byte{1});
  std::vector<std::byte> prefill(kWorkBytes, std::byte{2});
  const auto memory = Written(batch, {decode, prefill}, shape);
  const InputLayout at(shape);
  EXPECT_EQ(Read<int32_t>(memory, at.token_ids, 5), batch.token_ids);
  EXPECT_EQ(Read<int32_t>(memory, at.positions, 5), batch.positions);
  EXPECT_EQ(Read<int32_t>(memory, at.kv_slots, 5), batch.kv_slots);
  EXPECT_EQ(Read<float>(memory, at.null_bias, 5), batch.null_bias);
  EXPECT_EQ(Read<uint32_t>(memory, at.max_experts, 5), batch.max_experts);
  EXPECT_THAT(Read<int32_t>(memory, at.num_valid_tokens, 1), ElementsAre(5));
  EXPECT_EQ(Read<std::byte>(memory, at.decode_work, decode.size()), decode);
  EXPECT_EQ(Read<std::byte>(memory, at.prefill_work, prefill.size()), prefill);
  EXPECT_EQ(Read<int32_t>(memory, at.logit_rows, 3), batch.logit_rows);
  EXPECT_THAT(Read<int32_t>(memory, at.block_tables, 9), ElementsAre(2, 0, 0, 0, 7, 0, 1, 3, 0));
}

TEST(StepLayoutTest, PaddingIsNeutral) {
  ForwardBatch batch;
  batch.token_ids = {5, 6, 7};
  batch.positions = {3, 20, 40};
  batch.kv_slots = {3, 4, 8};
  batch.null_bias = {1.0f, 2.0f, 3.0f};
  batch.max_experts = {1, 2, 3};
  batch.token_begin = {0, 1, 2, 3};
  batch.context_lens = {4, 21, 41};
  batch.block_tables = {{2}, {5, 7}, {1, 3, 6}};
  batch.logit_rows = {1, 2};
  const StepShape shape{.num_tokens = 4,
                        .num_sequences = 4,
                        .max_blocks = 4,
                        .num_decode_work = 4,
                        .num_logit_rows = 4};
  const std::vector<std::byte> decode(3 * kWorkBytes, std::byte{1});
  const auto memory = Written(batch, {decode, {}}, shape);
  const InputLayout at(shape);
  EXPECT_THAT(Read<int32_t>(memory, at.token_ids, 4), ElementsAre(5, 6, 7, 0));
  EXPECT_THAT(Read<int32_t>(memory, at.positions, 4), ElementsAre(3, 20, 40, 0));
  EXPECT_THAT(Read<int32_t>(memory, at.kv_slots, 4), ElementsAre(3, 4, 8, -1)) << "stores nothing";
  EXPECT_THAT(Read<float>(memory, at.null_bias, 4), ElementsAre(1.0f, 2.0f, 3.0f, 0.0f));
  EXPECT_THAT(Read<uint32_t>(memory, at.max_experts, 4), ElementsAre(1, 2, 3, 0));
  EXPECT_THAT(Read<int32_t>(memory, at.num_valid_tokens, 1), ElementsAre(3));
  EXPECT_EQ(Read<std::byte>(memory, at.decode_work + 3 * kWorkBytes, kWorkBytes),
            std::vector<std::byte>(kWorkBytes))
      << "no tokens to attend for";
  EXPECT_THAT(Read<int32_t>(memory, at.logit_rows, 4), ElementsAre(1, 2, 0, 0));
  EXPECT_THAT(Read<int32_t>(memory, at.block_tables, 16),
              ElementsAre(2, 0, 0, 0, 5, 7, 0, 0, 1, 3, 6, 0, 0, 0, 0, 0));
}

TEST(StepLayoutTest, ReadsTheCountsOfTheTokensThatWereAskedFor) {
  constexpr int32_t kLayers = 2;
  constexpr int32_t kExperts = 3;
  const CountLayout at(4, kLayers, kExperts);
  EXPECT_EQ(at.executed % 4, 0);
  EXPECT_EQ(at.num_bytes % 4, 0);
  std::vector<std::byte> memory(at.num_bytes);
  for (int i = 0; i < 8; ++i) {
    memory[at.executed + i] = std::byte(i);
    memory[at.null_slots + i] = std::byte(10 + i);
    memory[at.dropped + i] = std::byte(20 + i);
  }
  uint32_t* const rows = reinterpret_cast<uint32_t*>(memory.data() + at.expert_rows);
  for (int i = 0; i < kLayers * kExperts; ++i) rows[i] = 1000 + i;
  ForwardResult result;
  result.executed.assign(99, 9);
  ModelDimensions dimensions;
  dimensions.num_layers = kLayers;
  dimensions.num_experts = kExperts;
  ReadCounts(memory.data(), at, 3, dimensions, &result);
  EXPECT_THAT(result.executed, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(result.null_slots, ElementsAre(10, 11, 12, 13, 14, 15));
  EXPECT_THAT(result.dropped, ElementsAre(20, 21, 22, 23, 24, 25));
  EXPECT_THAT(result.expert_rows, ElementsAre(1000, 1001, 1002, 1003, 1004, 1005));
}

}  // namespace
}  // namespace adamoe::cuda
