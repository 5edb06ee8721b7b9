#include "server/cuda/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/cuda/weight_layout.h"

namespace adamoe::cuda {
namespace {

using testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

MemoryNeeds SmallNeeds() {
  return {.weight_bytes = 10 * kGiB,
          .step_bytes = 2 * kGiB,
          .kv_block_bytes = 1 << 20,
          .block_size = 16,
          .kv_cache_tokens = 0,
          .max_kv_cache_tokens = 1 << 30};
}

TEST(MemoryPlanTest, TakesWhatIsLeftButForTheReserve) {
  const auto blocks = PlanKvBlocks(SmallNeeds(), 20 * kGiB);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(*blocks, 7 * 1024);
}

TEST(MemoryPlanTest, ButNotMoreThanCanBeUsed) {
  MemoryNeeds needs = SmallNeeds();
  needs.max_kv_cache_tokens = 1000;
  EXPECT_EQ(*PlanKvBlocks(needs, 20 * kGiB), 63);
}

TEST(MemoryPlanTest, AWantedSizeNeedsNoReserve) {
  MemoryNeeds needs = SmallNeeds();
  needs.kv_cache_tokens = 8 * 1024 * 16;
  EXPECT_EQ(*PlanKvBlocks(needs, 20 * kGiB), 8 * 1024);
  needs.kv_cache_tokens = 17;
  EXPECT_EQ(*PlanKvBlocks(needs, 20 * kGiB), 2) << "whole blocks";
}

TEST(MemoryPlanTest, SaysWhatWasNeededAndWhatThereIs) {
  MemoryNeeds needs = SmallNeeds();
  needs.kv_cache_tokens = 8 * 1024 * 16 + 1;
  const absl::Status status = PlanKvBlocks(needs, 20 * kGiB).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  for (const char* words : {"20.000 GiB free", "10.000 GiB for weights", "2.000 GiB for a step",
                            "8.001 GiB for a KV cache of 131088 tokens", "--kv_cache_tokens"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }
  for (const int64_t free_bytes : {int64_t{0}, 5 * kGiB, 13 * kGiB}) {
    const absl::Status none = PlanKvBlocks(SmallNeeds(), free_bytes).status();
    EXPECT_TRUE(absl::IsResourceExhausted(none)) << free_bytes;
    EXPECT_THAT(std::string(none.message()), HasSubstr("1 GiB in reserve"));
  }
  EXPECT_TRUE(PlanKvBlocks(SmallNeeds(), 13 * kGiB + (1 << 20)).ok());
}

TEST(MemoryPlanTest, RefusesSizesOutOfRange) {
  MemoryNeeds needs = SmallNeeds();
  needs.kv_cache_tokens = int64_t{1} << 31;
  EXPECT_TRUE(absl::IsInvalidArgument(PlanKvBlocks(needs, int64_t{1} << 50).status()));
  needs.kv_cache_tokens = -1;
  EXPECT_TRUE(absl::IsInvalidArgument(PlanKvBlocks(needs, int64_t{1} << 50).status()));
  needs = SmallNeeds();
  needs.block_size = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(PlanKvBlocks(needs, int64_t{1} << 50).status()));
}

TEST(MemoryPlanTest, AHugeGpuGivesNoMoreThanSlotsCanNumber) {
  MemoryNeeds needs = SmallNeeds();
  needs.kv_block_bytes = 64;
  needs.max_kv_cache_tokens = int64_t{1} << 40;
  EXPECT_LE(*PlanKvBlocks(needs, int64_t{1} << 50) * int64_t{16}, (int64_t{1} << 30) + 16);
}

TEST(MemoryPlanTest, Mixtral8x7BFitsAnH200) {
  ModelConfig config;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.num_experts = 8;
  config.num_null_experts = 8;
  config.experts_per_token = 3;
  config.vocab_size = 32000;
  const int64_t weights = LayOutWeights(config).num_bytes;
  EXPECT_NEAR(static_cast<double>(weights), 93.4e9, 0.1e9);
  EXPECT_EQ(KvBlockBytes(config, 16), 16 * 131072);  // 128 KiB per token
  const auto blocks = PlanKvBlocks({.weight_bytes = weights,
                                    .step_bytes = 2 * kGiB,
                                    .kv_block_bytes = KvBlockBytes(config, 16),
                                    .block_size = 16,
                                    .max_kv_cache_tokens = 1 << 30},
                                   139 * kGiB);
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_GT(*blocks * 16, 10 * 32768) << "contexts of 32768 tokens";
}

}  // namespace
}  // namespace adamoe::cuda
