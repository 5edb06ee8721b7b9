#include "server/cuda/decode_graph_key.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace adamoe::cuda {
namespace {

// `num_tokens[i]` tokens of sequence i, whose table has `num_blocks` blocks.
ForwardBatch BatchOf(const std::vector<int>& num_tokens, int num_blocks) {
  ForwardBatch batch;
  batch.token_begin = {0};
  for (const int count : num_tokens) {
    batch.token_ids.resize(batch.token_ids.size() + count);
    batch.token_begin.push_back(batch.num_tokens());
    batch.context_lens.push_back(count);
    batch.block_tables.emplace_back(num_blocks);
  }
  return batch;
}

ForwardBatch Decode(int num_sequences, int num_blocks = 1) {
  return BatchOf(std::vector<int>(num_sequences, 1), num_blocks);
}

TEST(DecodeGraphKeyTest, PadsToPowersOfTwo) {
  for (const auto& [tokens, padded] :
       {std::pair{1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {33, 64}, {128, 128}, {200, 256}}) {
    const auto key = DecodeGraphFor(Decode(tokens), 512);
    ASSERT_TRUE(key.has_value());
    EXPECT_EQ(key->num_tokens, padded);
    EXPECT_EQ(key->max_blocks, kMinGraphBlocks);
  }
  EXPECT_EQ(DecodeGraphFor(Decode(3, 16), 512)->max_blocks, 16);
  EXPECT_EQ(DecodeGraphFor(Decode(3, 17), 512)->max_blocks, 32);
  EXPECT_EQ(DecodeGraphFor(Decode(3, 2000), 512)->max_blocks, 2048);
}

TEST(DecodeGraphKeyTest, TheLongestTableCounts) {
  ForwardBatch batch = Decode(3);
  batch.block_tables[1].resize(40);
  EXPECT_EQ(DecodeGraphFor(batch, 512)->max_blocks, 64);
}

TEST(DecodeGraphKeyTest, OnlyOneTokenPerSequence) {
  EXPECT_FALSE(DecodeGraphFor(BatchOf({1, 2, 1}, 4), 512).has_value());
  EXPECT_FALSE(DecodeGraphFor(BatchOf({7}, 4), 512).has_value());
}

TEST(DecodeGraphKeyTest, OnlyWhatFits) {
  EXPECT_TRUE(DecodeGraphFor(Decode(kMaxGraphTokens), 512).has_value());
  EXPECT_FALSE(DecodeGraphFor(Decode(kMaxGraphTokens + 1), 512).has_value());
  EXPECT_TRUE(DecodeGraphFor(Decode(8), 8).has_value());
  EXPECT_FALSE(DecodeGraphFor(Decode(9), 8).has_value());
}

TEST(DecodeGraphKeyTest, AServerOfAnySizeHasFewGraphs) {
  std::set<DecodeGraphKey> keys;
  for (int sequences = 1; sequences <= 256; ++sequences) {
    ForwardBatch batch = Decode(sequences);
    for (int blocks = 1; blocks <= 2048; blocks += 13) {
      batch.block_tables.back().resize(blocks);
      keys.insert(*DecodeGraphFor(batch, 512));
    }
  }
  EXPECT_EQ(keys.size(), 9u * 8u);  // 1 to 256 tokens, 16 to 2048 blocks
}

TEST(PowerOfTwoTest, RoundsUp) {
  EXPECT_EQ(PowerOfTwoFrom(1), 1);
  EXPECT_EQ(PowerOfTwoFrom(2), 2);
  EXPECT_EQ(PowerOfTwoFrom(3), 4);
  EXPECT_EQ(PowerOfTwoFrom((1 << 29) + 1), 1 << 30);
}

}  // namespace
}  // namespace adamoe::cuda
