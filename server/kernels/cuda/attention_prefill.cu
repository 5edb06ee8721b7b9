// Attention of a chunk of a prompt, on the tensor cores.
//
// A block takes up to 128 / g tokens of one sequence and one key head, g query heads to it: rows of
// a tile are the (token, head) pairs, 16 to a warp, so that keys are read once for all g. Keys pass
// in tiles of 64, two in shared memory: one is multiplied while the other is on its way. A warp
// keeps its scores, its running softmax and its output in registers (arXiv 2205.14135, 2307.08691);
// queries and probabilities are rounded to bfloat16 to be multiplied, everything else is float32.
#include <cmath>

#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/attention_index.h"
#include "server/kernels/cuda/device.h"
#include "server/kernels/cuda/mma_layout.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kWarps = kAttentionTileRows / 16;
constexpr int32_t kThreads = kWarps * kWarpSize;
constexpr int32_t kKeys = kAttentionTileKeys;
constexpr float kLog2E = 1.4426950408889634f;

// Keys or values of a tile: columns in tiles of 64 (mma_layout.h), one after the other.
constexpr int32_t kColTileBytes = kKeys * kTileRowBytes;
template <int32_t kDim>
constexpr int32_t kTensorBytes = (kDim + kTileCols - 1) / kTileCols* kColTileBytes;
template <int32_t kDim>
constexpr int32_t kSharedBytes = 2 * 2 * kTensorBytes<kDim>;  // two tiles of keys and of values

// Byte offset of a piece of 8 dimensions of a key.
__device__ int32_t PieceOffset(int32_t key, int32_t piece) {
  return piece / 8 * kColTileBytes + SwizzledOffset(key, piece % 8);
}

// Starts the copies of the keys and values at [first, first + 64), one group; zeros past `end`.
template <int32_t kDim>
__device__ void CopyKeys(const AttentionArgs& args, const int32_t* table, int32_t kv_head,
                         int32_t first, int32_t end, unsigned char* stage) {
  constexpr int32_t kPieces = kDim / 8;
#pragma unroll
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < kKeys * kPieces; i += kThreads) {
    const int32_t key = i / kPieces;
    const int32_t piece = i % kPieces;
    const bool wanted = first + key < end;
    const int64_t at = wanted ? KeyOffset(table, first + key, args.cache.block_size,
                                          args.cache.num_kv_heads, kv_head, kDim) +
                                    piece * 8
                              : 0;
    unsigned char* to = stage + PieceOffset(key, piece);
    CopyAsync16(to, args.cache.keys + at, wanted);
    CopyAsync16(to + kTensorBytes<kDim>, args.cache.values + at, wanted);
  }
  CopyAsyncCommit();
}

// A lane's two rows of the tile, l / 4 and l / 4 + 8 of its warp's 16.
struct LaneRow {
  bool exists = false;
  int32_t token = 0;
  int32_t head = 0;
  int32_t position = -1;
};

template <int32_t kDim>
__global__ void __launch_bounds__(kThreads)
    AttendPrefillKernel(AttentionArgs args, const AttentionWork* all_work) {
  constexpr int32_t kDimSteps = kDim / 16;
  constexpr int32_t kKeyGroups = kKeys / 8;
  ADAMOE_DYNAMIC_SHARED(shared);

  const AttentionWork work = all_work[blockIdx.x];
  if (work.num_tokens == 0) return;  // the whole block
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y);
  const int32_t group_heads = args.num_heads / args.cache.num_kv_heads;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
  const int32_t* table = args.block_tables + static_cast<int64_t>(work.sequence) * args.max_blocks;
  const int32_t first_key = SeenKeys(args.positions[work.first_token], args.sliding_window).begin;
  const int32_t end_key = args.positions[work.first_token + work.num_tokens - 1] + 1;

  LaneRow rows[2];
#pragma unroll
  for (int32_t r = 0; r < 2; ++r) {
    const int32_t row = warp * 16 + FragmentRow(lane) + 8 * r;
    rows[r].exists = row < work.num_tokens * group_heads;
    if (!rows[r].exists) continue;
    rows[r].token = work.first_token + row / group_heads;
    rows[r].head = kv_head * group_heads + row % group_heads;
    rows[r].position = args.positions[rows[r].token];
  }

  CopyKeys<kDim>(args, table, kv_head, first_key, end_key, shared);

  uint32_t query[kDimSteps][4];
#pragma unroll
  for (int32_t step = 0; step < kDimSteps; ++step) {
#pragma unroll
    for (int32_t i = 0; i < 4; ++i) {
      const LaneRow& row = rows[i % 2];
      query[step][i] = 0;
      if (!row.exists) continue;
      const float2 pair = *reinterpret_cast<const float2*>(
          args.queries + row.token * args.query_stride + static_cast<int64_t>(row.head) * kDim +
          16 * step + FragmentCol(lane) + 8 * (i / 2));
      query[step][i] = ToBf16Pair(pair.x, pair.y);
    }
  }

  const float scale = kLog2E / sqrtf(static_cast<float>(kDim));
  float out[2 * kDimSteps][4] = {};  // for every 8 dimensions, as mma_layout.h's c
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {};  // of this lane's keys

  const int32_t num_tiles = CeilDiv(end_key - first_key, kKeys);
  for (int32_t tile = 0; tile < num_tiles; ++tile) {
    const int32_t tile_key = first_key + tile * kKeys;
    unsigned char* stage = shared + tile % 2 * 2 * kTensorBytes<kDim>;
    if (tile + 1 < num_tiles) {
      CopyKeys<kDim>(args, table, kv_head, tile_key + kKeys, end_key,
                     shared + (tile + 1) % 2 * 2 * kTensorBytes<kDim>);
    } else {
      CopyAsyncCommit();
    }
    CopyAsyncWait<1>();
    __syncthreads();

    // Scores of 16 rows and 64 keys.
    float score[kKeyGroups][4] = {};
#pragma unroll
    for (int32_t step = 0; step < kDimSteps; ++step) {
#pragma unroll
      for (int32_t g = 0; g < kKeyGroups; g += 2) {
        // Keys 0-7, the same 8 dimensions on, keys 8-15, the same 8 dimensions on.
        const int32_t key = 8 * g + lane % 8 + lane / 16 * 8;
        uint32_t b[4];
        LoadMatrices(stage + PieceOffset(key, 2 * step + lane / 8 % 2), b);
        Mma16x8x16(score[g], query[step], b[0], b[1]);
        Mma16x8x16(score[g + 1], query[step], b[2], b[3]);
      }
    }

    float tile_largest[2] = {largest[0], largest[1]};
#pragma unroll
    for (int32_t g = 0; g < kKeyGroups; ++g) {
#pragma unroll
      for (int32_t i = 0; i < 4; ++i) {
        const int32_t key = tile_key + 8 * g + FragmentCol(lane) + i % 2;
        const bool seen = Sees(rows[i / 2].position, args.sliding_window, key);
        score[g][i] = seen ? score[g][i] * scale : -INFINITY;
        if (score[g][i] > tile_largest[i / 2]) tile_largest[i / 2] = score[g][i];
      }
    }
    float fade[2];
    float zero[2];  // what scores are taken from: never minus infinity
#pragma unroll
    for (int32_t r = 0; r < 2; ++r) {
#pragma unroll
      for (int32_t offset = 1; offset <= 2; offset *= 2) {  // the lanes of a row
        const float other = ShuffleXor(tile_largest[r], offset);
        tile_largest[r] = other > tile_largest[r] ? other : tile_largest[r];
      }
      zero[r] = tile_largest[r] == -INFINITY ? 0.0f : tile_largest[r];
      fade[r] = FastExp2(largest[r] - zero[r]);
      largest[r] = tile_largest[r];
      total[r] *= fade[r];
    }
#pragma unroll
    for (int32_t g = 0; g < kKeyGroups; ++g) {
#pragma unroll
      for (int32_t i = 0; i < 4; ++i) {
        score[g][i] = FastExp2(score[g][i] - zero[i / 2]);
        total[i / 2] += score[g][i];
      }
    }
#pragma unroll
    for (int32_t d = 0; d < 2 * kDimSteps; ++d) {
#pragma unroll
      for (int32_t i = 0; i < 4; ++i) out[d][i] *= fade[i / 2];
    }

    // out += probabilities * values. The accumulators of two groups of keys are one A.
    const unsigned char* values = stage + kTensorBytes<kDim>;
#pragma unroll
    for (int32_t g = 0; g < kKeyGroups; g += 2) {
      const uint32_t a[4] = {ToBf16Pair(score[g][0], score[g][1]),
                             ToBf16Pair(score[g][2], score[g][3]),
                             ToBf16Pair(score[g + 1][0], score[g + 1][1]),
                             ToBf16Pair(score[g + 1][2], score[g + 1][3])};
#pragma unroll
      for (int32_t d = 0; d < 2 * kDimSteps; d += 2) {
        // Keys 0-7, keys 8-15, and both again 8 dimensions on.
        const int32_t key = 8 * g + lane % 16;
        uint32_t b[4];
        LoadMatricesTransposed(values + PieceOffset(key, d + lane / 16), b);
        Mma16x8x16(out[d], a, b[0], b[1]);
        Mma16x8x16(out[d + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();  // before the next copies overwrite this tile
  }
  CopyAsyncWait<0>();

#pragma unroll
  for (int32_t r = 0; r < 2; ++r) {
    total[r] += ShuffleXor(total[r], 1);
    total[r] += ShuffleXor(total[r], 2);
    if (!rows[r].exists) continue;
    Bf16* to =
        args.out + (static_cast<int64_t>(rows[r].token) * args.num_heads + rows[r].head) * kDim;
#pragma unroll
    for (int32_t d = 0; d < 2 * kDimSteps; ++d) {
      *reinterpret_cast<uint32_t*>(to + 8 * d + FragmentCol(lane)) =
          ToBf16Pair(out[d][2 * r] / total[r], out[d][2 * r + 1] / total[r]);
    }
  }
}

template <int32_t kDim>
cudaError_t LaunchPrefill(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                          cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(num_work), static_cast<unsigned>(args.cache.num_kv_heads));
  return Launch(AttendPrefillKernel<kDim>, {grid, kThreads, kSharedBytes<kDim>}, stream, args,
                work);
}

}  // namespace

cudaError_t AttendPrefill(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                          cudaStream_t stream) {
  if (!PrefillSupports(args.num_heads, args.cache.num_kv_heads, args.cache.head_dim)) {
    return cudaErrorInvalidValue;
  }
  if (num_work == 0) return cudaSuccess;
  switch (args.cache.head_dim) {
    case 32:
      return LaunchPrefill<32>(args, work, num_work, stream);
    case 64:
      return LaunchPrefill<64>(args, work, num_work, stream);
    default:
      return LaunchPrefill<128>(args, work, num_work, stream);
  }
}

}  // namespace adamoe::cuda
