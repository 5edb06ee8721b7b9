#include "server/kv_cache/block_pool.h"

#include <algorithm>
#include <list>
#include <map>
#include <optional>
#include <random>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

namespace adamoe {
namespace {

using Tokens = std::vector<int32_t>;

TEST(BlockPoolTest, GivesEveryBlockOnce) {
  BlockPool pool(3, 2);
  std::vector<BlockId> blocks;
  while (const auto block = pool.Allocate()) blocks.push_back(*block);
  std::sort(blocks.begin(), blocks.end());
  EXPECT_EQ(blocks, (std::vector<BlockId>{0, 1, 2}));
  EXPECT_EQ(pool.num_free(), 0);
  pool.Release(1);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.Allocate(), 1);
}

TEST(BlockPoolTest, SharesACachedBlockUntilItsLastHolderLetsGo) {
  BlockPool pool(2, 2);
  const BlockId block = *pool.Allocate();
  const PrefixId prefix = pool.Cache(block, BlockPool::kNoPrefix, Tokens{5, 6}, 0);
  const auto hit = pool.Acquire(BlockPool::kNoPrefix, Tokens{5, 6}, 0);
  ASSERT_TRUE(hit.has_value());
  EXPECT_EQ(hit->block, block);
  EXPECT_EQ(hit->prefix, prefix);
  pool.Release(block);
  EXPECT_EQ(pool.num_free(), 1);
  pool.Release(block);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.num_cached(), 1);
}

TEST(BlockPoolTest, TellsParentTokensAndSaltApart) {
  BlockPool pool(4, 2);
  const BlockId first = *pool.Allocate();
  const BlockId second = *pool.Allocate();
  const PrefixId prefix = pool.Cache(first, BlockPool::kNoPrefix, Tokens{1, 2}, 7);
  pool.Cache(second, prefix, Tokens{1, 2}, 7);
  EXPECT_EQ(pool.Acquire(BlockPool::kNoPrefix, Tokens{1, 2}, 7)->block, first);
  EXPECT_EQ(pool.Acquire(prefix, Tokens{1, 2}, 7)->block, second);
  EXPECT_FALSE(pool.Acquire(prefix + 1, Tokens{1, 2}, 7).has_value());
  EXPECT_FALSE(pool.Acquire(BlockPool::kNoPrefix, Tokens{2, 1}, 7).has_value());
  EXPECT_FALSE(pool.Acquire(BlockPool::kNoPrefix, Tokens{1, 2}, 8).has_value());
}

TEST(BlockPoolTest, KeepsTheFirstOfTwoEqualBlocks) {
  BlockPool pool(2, 1);
  const BlockId first = *pool.Allocate();
  const BlockId second = *pool.Allocate();
  const PrefixId prefix = pool.Cache(first, BlockPool::kNoPrefix, Tokens{9}, 0);
  EXPECT_EQ(pool.Cache(second, BlockPool::kNoPrefix, Tokens{9}, 0), prefix);
  EXPECT_EQ(pool.num_cached(), 1);
  pool.Release(second);
  EXPECT_EQ(pool.Acquire(BlockPool::kNoPrefix, Tokens{9}, 0)->block, first);
}

TEST(BlockPoolTest, EvictsTheLeastRecentlyUsedAndOnlyWhenItMust) {
  BlockPool pool(3, 1);
  for (int32_t token = 0; token < 3; ++token) {
    pool.Cache(*pool.Allocate(), BlockPool::kNoPrefix, Tokens{token}, 0);
  }
  const BlockId zero = pool.Acquire(BlockPool::kNoPrefix, Tokens{0}, 0)->block;
  pool.Release(zero);  // one hold is left: in use
  for (const int32_t token : {1, 2}) {
    const BlockId block = pool.Acquire(BlockPool::kNoPrefix, Tokens{token}, 0)->block;
    pool.Release(block);
    pool.Release(block);
  }
  pool.Release(zero);
  // Idle since: 1, then 2, then 0.
  const BlockId taken = *pool.Allocate();
  EXPECT_FALSE(pool.Acquire(BlockPool::kNoPrefix, Tokens{1}, 0).has_value());
  pool.Release(taken);
  EXPECT_EQ(*pool.Allocate(), taken) << "an empty block goes before a cached one";
  ASSERT_TRUE(pool.Acquire(BlockPool::kNoPrefix, Tokens{2}, 0).has_value());
  EXPECT_TRUE(pool.Allocate().has_value());
  EXPECT_FALSE(pool.Acquire(BlockPool::kNoPrefix, Tokens{0}, 0).has_value());
  EXPECT_FALSE(pool.Allocate().has_value());
}

TEST(BlockPoolTest, ForgottenBlocksAreNotFound) {
  BlockPool pool(2, 1);
  const BlockId held = *pool.Allocate();
  const BlockId idle = *pool.Allocate();
  pool.Cache(held, BlockPool::kNoPrefix, Tokens{1}, 0);
  pool.Cache(idle, BlockPool::kNoPrefix, Tokens{2}, 0);
  pool.Release(idle);
  pool.Forget(held);
  pool.Forget(idle);
  pool.Forget(idle);
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_FALSE(pool.Acquire(BlockPool::kNoPrefix, Tokens{1}, 0).has_value());
  EXPECT_FALSE(pool.Acquire(BlockPool::kNoPrefix, Tokens{2}, 0).has_value());
  pool.Release(held);
  EXPECT_EQ(pool.num_free(), 2);
}

// A child that outlived its parent must not hang from another block of the same id.
TEST(BlockPoolTest, AChildOfAnEvictedParentIsUnreachable) {
  BlockPool pool(2, 1);
  const BlockId parent = *pool.Allocate();
  const PrefixId prefix = pool.Cache(parent, BlockPool::kNoPrefix, Tokens{1}, 0);
  const BlockId child = *pool.Allocate();
  pool.Cache(child, prefix, Tokens{2}, 0);
  pool.Release(parent);
  const BlockId other = *pool.Allocate();
  ASSERT_EQ(other, parent);
  const PrefixId other_prefix = pool.Cache(other, BlockPool::kNoPrefix, Tokens{1}, 0);
  EXPECT_NE(other_prefix, prefix);
  EXPECT_FALSE(pool.Acquire(other_prefix, Tokens{2}, 0).has_value());
}

// The same operations on plain containers, each searched from end to end.
class NaivePool {
 public:
  using Key = std::tuple<PrefixId, Tokens, uint64_t>;

  explicit NaivePool(int32_t num_blocks) : holds_(num_blocks, 0), keys_(num_blocks) {}

  bool MayAllocate(BlockId id) const {
    if (holds_[id] > 0) return false;
    if (!keys_[id]) return true;
    for (size_t i = 0; i < holds_.size(); ++i) {
      if (holds_[i] == 0 && !keys_[i]) return false;
    }
    return idle_.front() == id;
  }
  void Allocate(BlockId id) {
    idle_.remove(id);
    keys_[id].reset();
    holds_[id] = 1;
  }
  void Release(BlockId id) {
    if (--holds_[id] == 0 && keys_[id]) idle_.push_back(id);
  }
  std::optional<BlockId> Find(const Key& key) const {
    for (size_t i = 0; i < keys_.size(); ++i) {
      if (keys_[i] == key) return static_cast<BlockId>(i);
    }
    return std::nullopt;
  }
  void Acquire(BlockId id) {
    idle_.remove(id);
    ++holds_[id];
  }
  void Cache(BlockId id, const Key& key) {
    if (!Find(key)) keys_[id] = key;
  }
  void Forget(BlockId id) {
    keys_[id].reset();
    idle_.remove(id);
  }
  int num_free() const { return static_cast<int>(std::count(holds_.begin(), holds_.end(), 0)); }
  int num_cached() const {
    return static_cast<int>(
        std::count_if(keys_.begin(), keys_.end(), [](const auto& key) { return key.has_value(); }));
  }
  int holds(BlockId id) const { return holds_[id]; }
  bool cached(BlockId id) const { return keys_[id].has_value(); }

 private:
  std::vector<int> holds_;
  std::vector<std::optional<Key>> keys_;
  std::list<BlockId> idle_;  // least recently used first
};

TEST(BlockPoolTest, AgreesWithANaivePoolOnRandomOperations) {
  constexpr int32_t kNumBlocks = 9;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&random](int n) { return static_cast<int>(random() % n); };
    BlockPool pool(kNumBlocks, 2);
    NaivePool naive(kNumBlocks);
    std::vector<PrefixId> prefixes = {BlockPool::kNoPrefix};
    for (int step = 0; step < 3000; ++step) {
      const BlockId id = below(kNumBlocks);
      const NaivePool::Key key = {prefixes[below(std::min<int>(prefixes.size(), 4))],
                                  Tokens{below(2), below(2)}, below(2)};
      const auto& [parent, tokens, salt] = key;
      switch (below(5)) {
        case 0: {
          const auto block = pool.Allocate();
          ASSERT_EQ(block.has_value(), naive.num_free() > 0);
          if (!block) break;
          ASSERT_TRUE(naive.MayAllocate(*block));
          naive.Allocate(*block);
          break;
        }
        case 1:
          if (naive.holds(id) == 0) break;
          pool.Release(id);
          naive.Release(id);
          break;
        case 2: {
          const auto hit = pool.Acquire(parent, tokens, salt);
          const auto found = naive.Find(key);
          ASSERT_EQ(hit.has_value(), found.has_value());
          if (!hit) break;
          ASSERT_EQ(hit->block, *found);
          naive.Acquire(*found);
          break;
        }
        case 3: {
          if (naive.holds(id) == 0 || naive.cached(id)) break;
          const PrefixId prefix = pool.Cache(id, parent, tokens, salt);
          naive.Cache(id, key);
          prefixes.insert(prefixes.begin() + 1, prefix);
          break;
        }
        case 4:
          if (below(4) > 0) break;
          pool.Forget(id);
          naive.Forget(id);
          break;
      }
      ASSERT_EQ(pool.num_free(), naive.num_free());
      ASSERT_EQ(pool.num_cached(), naive.num_cached());
    }
  }
}

}  // namespace
}  // namespace adamoe
