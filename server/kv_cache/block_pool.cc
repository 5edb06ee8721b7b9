#include "server/kv_cache/block_pool.h"

#include <algorithm>
#include <cassert>

#include "absl/hash/hash.h"

namespace adamoe {
namespace {

uint64_t HashOf(PrefixId parent, absl::Span<const int32_t> tokens, uint64_t salt) {
  return absl::HashOf(parent, salt, tokens);
}

}  // namespace

BlockPool::BlockPool(int32_t num_blocks, int32_t block_size)
    : block_size_(block_size),
      blocks_(num_blocks),
      tokens_(static_cast<size_t>(num_blocks) * block_size) {
  assert(num_blocks >= 1 && block_size >= 1);
  free_.reserve(num_blocks);
  for (BlockId id = num_blocks - 1; id >= 0; --id) free_.push_back(id);
}

std::optional<BlockId> BlockPool::Allocate() {
  if (free_.empty()) {
    if (oldest_idle_ < 0) return std::nullopt;
    Forget(oldest_idle_);
  }
  const BlockId id = free_.back();
  free_.pop_back();
  blocks_[id].num_holds = 1;
  return id;
}

void BlockPool::Release(BlockId id) {
  Block& block = blocks_[id];
  assert(block.num_holds > 0);
  if (--block.num_holds > 0) return;
  if (block.prefix == kNoPrefix) {
    free_.push_back(id);
  } else {
    AppendIdle(id);
  }
}

std::optional<BlockPool::Hit> BlockPool::Acquire(PrefixId parent, absl::Span<const int32_t> tokens,
                                                 uint64_t salt) {
  assert(tokens.size() == static_cast<size_t>(block_size_));
  const auto found = cache_.find(HashOf(parent, tokens, salt));
  if (found == cache_.end()) return std::nullopt;
  const BlockId id = found->second;
  Block& block = blocks_[id];
  if (!Matches(block, id, parent, tokens, salt)) return std::nullopt;
  if (block.num_holds++ == 0) RemoveIdle(id);
  return Hit{id, block.prefix};
}

PrefixId BlockPool::Cache(BlockId id, PrefixId parent, absl::Span<const int32_t> tokens,
                          uint64_t salt) {
  Block& block = blocks_[id];
  assert(block.num_holds > 0 && block.prefix == kNoPrefix);
  assert(tokens.size() == static_cast<size_t>(block_size_));
  const uint64_t hash = HashOf(parent, tokens, salt);
  const auto [entry, inserted] = cache_.try_emplace(hash, id);
  if (!inserted) {
    const Block& cached = blocks_[entry->second];
    // A PrefixId that no block bears keeps the children of a colliding block from being found.
    return Matches(cached, entry->second, parent, tokens, salt) ? cached.prefix : next_prefix_++;
  }
  block.prefix = next_prefix_++;
  block.parent = parent;
  block.salt = salt;
  block.hash = hash;
  std::copy(tokens.begin(), tokens.end(), tokens_.begin() + int64_t{id} * block_size_);
  return block.prefix;
}

void BlockPool::Forget(BlockId id) {
  Block& block = blocks_[id];
  if (block.prefix == kNoPrefix) return;
  cache_.erase(block.hash);
  block.prefix = kNoPrefix;
  if (block.num_holds > 0) return;
  RemoveIdle(id);
  free_.push_back(id);
}

bool BlockPool::Matches(const Block& block, BlockId id, PrefixId parent,
                        absl::Span<const int32_t> tokens, uint64_t salt) const {
  return block.parent == parent && block.salt == salt &&
         std::equal(tokens.begin(), tokens.end(), tokens_.begin() + int64_t{id} * block_size_);
}

void BlockPool::AppendIdle(BlockId id) {
  blocks_[id].older = newest_idle_;
  blocks_[id].newer = -1;
  (newest_idle_ < 0 ? oldest_idle_ : blocks_[newest_idle_].newer) = id;
  newest_idle_ = id;
  ++num_idle_;
}

void BlockPool::RemoveIdle(BlockId id) {
  const Block& block = blocks_[id];
  (block.older < 0 ? oldest_idle_ : blocks_[block.older].newer) = block.newer;
  (block.newer < 0 ? newest_idle_ : blocks_[block.newer].older) = block.older;
  --num_idle_;
}

}  // namespace adamoe
