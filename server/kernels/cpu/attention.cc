#include "server/kernels/cpu/attention.h"

#include <algorithm>
#include <vector>

#include "server/kernels/cpu/scratch.h"

namespace adamoe {
namespace {

// Rows (tokens times query heads of a group) that share the loads of keys and values.
constexpr int32_t kRowsPerPiece = 24;

// Consecutive tokens of one sequence.
struct TokenBlock {
  int32_t sequence;
  int32_t begin, end;  // tokens of the batch
};

std::vector<TokenBlock> CutTokens(const AttentionBatch& batch, int32_t tokens_per_block) {
  std::vector<TokenBlock> blocks;
  for (int32_t s = 0; s < batch.num_sequences; ++s) {
    const int32_t end = batch.token_begin[s + 1];
    for (int32_t t = batch.token_begin[s]; t < end; t += tokens_per_block) {
      blocks.push_back({s, t, std::min(t + tokens_per_block, end)});
    }
  }
  return blocks;
}

void StoreRow(const CpuContext& context, const float* row, int64_t n, DType dtype, void* base,
              int64_t slot) {
  if (dtype == DType::kFloat32) {
    std::copy(row, row + n, static_cast<float*>(base) + slot * n);
  } else {
    context.kernels->narrow(row, n, static_cast<uint16_t*>(base) + slot * n);
  }
}

const uint8_t* AtHead(const void* base, const KvLayer& cache, int64_t head) {
  const int64_t elements = head * cache.head_dim;
  return static_cast<const uint8_t*>(base) + elements * static_cast<int64_t>(SizeOf(cache.dtype));
}

// How long a token's attention takes, roughly: keys seen, times twice the head size.
int64_t MacsPerPiece(const KvLayer& cache, const AttentionBatch& batch, int32_t rows) {
  const int64_t keys = static_cast<int64_t>(batch.max_blocks) * cache.block_size;
  return std::max<int64_t>(keys / 2, 1) * 2 * cache.head_dim * rows;
}

}  // namespace

void AppendToCache(const CpuContext& context, const float* keys, const float* values,
                   const int32_t* slots, int64_t num_tokens, const KvLayer& cache) {
  const int64_t width = static_cast<int64_t>(cache.num_kv_heads) * cache.head_dim;
  for (int64_t t = 0; t < num_tokens; ++t) {
    StoreRow(context, keys + t * width, width, cache.dtype, cache.keys, slots[t]);
    StoreRow(context, values + t * width, width, cache.dtype, cache.values, slots[t]);
  }
}

void RunAttention(const CpuContext& context, const float* q, const KvLayer& cache,
                  const AttentionBatch& batch, int32_t num_heads, float* out) {
  const int32_t group = num_heads / cache.num_kv_heads;
  const int32_t tokens_per_block = std::max(kRowsPerPiece / group, 1);
  const std::vector<TokenBlock> blocks = CutTokens(batch, tokens_per_block);
  const int64_t num_pieces = static_cast<int64_t>(blocks.size()) * cache.num_kv_heads;
  const int64_t token_stride = static_cast<int64_t>(num_heads) * cache.head_dim;
  const auto attend = [&](int64_t piece) {
    const TokenBlock& block = blocks[piece / cache.num_kv_heads];
    const int64_t head = piece % cache.num_kv_heads;
    const int64_t first = block.begin * token_stride + head * group * cache.head_dim;
    const int64_t rows = static_cast<int64_t>(block.end - block.begin) * group;
    context.kernels->attend(
        {.q = q + first,
         .out = out + first,
         .token_stride = token_stride,
         .positions = batch.positions + block.begin,
         .num_tokens = block.end - block.begin,
         .group = group,
         .head_dim = cache.head_dim,
         .keys = AtHead(cache.keys, cache, head),
         .values = AtHead(cache.values, cache, head),
         .dtype = cache.dtype,
         .slot_stride = static_cast<int64_t>(cache.num_kv_heads) * cache.head_dim,
         .block_size = cache.block_size,
         .block_table =
             batch.block_tables + static_cast<int64_t>(block.sequence) * batch.max_blocks,
         .sliding_window = batch.sliding_window,
         .scratch = ThreadFloats(Scratch::kAttend, AttendScratch(rows, cache.head_dim))});
  };
  const int64_t grain = GrainFor(num_pieces, MacsPerPiece(cache, batch, group));
  context.pool->ParallelFor(num_pieces, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) attend(i);
  });
}

}  // namespace adamoe
