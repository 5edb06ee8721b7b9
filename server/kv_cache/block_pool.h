// Which blocks of the KV cache are in use, by id only: reference counts, and a prefix cache of full
// blocks.
//
// A block is free, held (by one sequence or, for a shared prefix, several), or idle: held by nobody
// but kept because it is in the prefix cache. Idle blocks count as free; Allocate takes them, least
// recently used first, when no other is left.
//
// The prefix cache is a tree. A full block is named by its parent's PrefixId, its token ids and a
// salt (whatever else its keys and values depend on). Ids are never used twice, and a hit compares
// parent, tokens and salt themselves, so a collision of hashes costs a miss, never a wrong block. A
// block whose parent has left the cache cannot be reached any more and goes when its turn comes.
//
//   PrefixId prefix = BlockPool::kNoPrefix;
//   while (auto hit = pool.Acquire(prefix, NextBlockOfTokens(), salt)) {
//     blocks.push_back(hit->block);
//     prefix = hit->prefix;
//   }
//
// Every operation takes constant time (hashing and comparing one block's tokens included).
// Thread-compatible.
#ifndef ADAMOE_SERVER_KV_CACHE_BLOCK_POOL_H_
#define ADAMOE_SERVER_KV_CACHE_BLOCK_POOL_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace adamoe {

using BlockId = int32_t;    // in [0, num_blocks)
using PrefixId = uint64_t;  // names the tokens from position 0 to the end of a cached block

class BlockPool {
 public:
  static constexpr PrefixId kNoPrefix = 0;  // the parent of a sequence's first block

  struct Hit {
    BlockId block;
    PrefixId prefix;
  };

  // REQUIRES: num_blocks >= 1, block_size >= 1.
  BlockPool(int32_t num_blocks, int32_t block_size);

  // A block held once, with no content. Nothing when every block is held.
  std::optional<BlockId> Allocate();

  // Gives one hold back. REQUIRES: the block is held.
  void Release(BlockId block);

  // The cached block of these tokens behind `parent`, held once more. REQUIRES: tokens.size() ==
  // block_size.
  std::optional<Hit> Acquire(PrefixId parent, absl::Span<const int32_t> tokens, uint64_t salt);

  // Puts a full block into the cache and returns what its children name as parent. Where an equal
  // block is cached already, that one stays and its PrefixId is returned. REQUIRES: the block is
  // held and not cached; tokens.size() == block_size.
  PrefixId Cache(BlockId block, PrefixId parent, absl::Span<const int32_t> tokens, uint64_t salt);

  // Takes a block out of the cache, if it is there: its content is not to be trusted. Holds stay.
  void Forget(BlockId block);

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t block_size() const { return block_size_; }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()) + num_idle_; }
  int32_t num_cached() const { return static_cast<int32_t>(cache_.size()); }

 private:
  struct Block {
    int32_t num_holds = 0;
    PrefixId prefix = kNoPrefix;  // kNoPrefix: not cached. The fields below are set when it is
    PrefixId parent = kNoPrefix;
    uint64_t salt = 0;
    uint64_t hash = 0;
    // Neighbours in the list of idle blocks; -1 at its ends.
    BlockId older = -1;
    BlockId newer = -1;
  };

  bool Matches(const Block& block, BlockId id, PrefixId parent, absl::Span<const int32_t> tokens,
               uint64_t salt) const;
  void AppendIdle(BlockId id);
  void RemoveIdle(BlockId id);

  const int32_t block_size_;
  std::vector<Block> blocks_;
  std::vector<int32_t> tokens_;  // [num_blocks, block_size], of cached blocks
  std::vector<BlockId> free_;    // neither held nor cached
  BlockId oldest_idle_ = -1;
  BlockId newest_idle_ = -1;
  int32_t num_idle_ = 0;
  PrefixId next_prefix_ = kNoPrefix + 1;
  absl::flat_hash_map<uint64_t, BlockId> cache_;  // by hash of parent, tokens and salt
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KV_CACHE_BLOCK_POOL_H_
