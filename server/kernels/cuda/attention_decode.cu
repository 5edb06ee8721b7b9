// Attention of one token over its keys, in float32.
//
// A block takes one token, up to 4 query heads of one key head, and a share of the keys. Groups of
// lanes (16 for a head of 128) take a key each: a lane has 8 of the head's dimensions. Every group
// keeps a softmax of its own (largest score, sum, weighted sum of values) over the keys it saw;
// at the end groups, warps and, in a second kernel, blocks are merged. Scores are in units of
// log 2. Read bandwidth decides: a key is read once for the 4 heads.
#include <cmath>

#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/attention_index.h"
#include "server/kernels/cuda/device.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kWarps = 4;
constexpr int32_t kThreads = kWarps * kWarpSize;
constexpr int32_t kKeysAtOnce = 4;  // of a group of lanes
constexpr int32_t kMaxHeads = 4;    // of a block
constexpr int32_t kLaneDims = 8;
constexpr float kLog2E = 1.4426950408889634f;

// What the blocks of a token leave in the workspace.
struct Partials {
  float* sums;      // [num_work, num_heads, num_splits, head_dim]
  float2* softmax;  // [num_work, num_heads, num_splits]: largest score, sum of weights
};

__host__ __device__ Partials PlacePartials(void* workspace, int32_t num_work, int32_t num_heads,
                                           int32_t head_dim, int32_t num_splits) {
  float* sums = static_cast<float*>(workspace);
  const int64_t num_sums = PartialOffset(num_work, 0, 0, num_heads, num_splits, head_dim);
  return {sums, reinterpret_cast<float2*>(sums + num_sums)};
}

// A softmax-weighted sum over some keys, of one head; a lane's dimensions of it.
struct Weighted {
  float largest = -INFINITY;
  float total = 0.0f;
  float sum[kLaneDims] = {};
};

// 2^(score - largest); 0 while there is no key.
__device__ float WeightOf(float score, float largest) {
  return largest == -INFINITY ? 0.0f : FastExp2(score - largest);
}

// Merges with the lane `offset` away; both get the result.
__device__ void MergeLanes(Weighted* w, int offset) {
  const float other_largest = ShuffleXor(w->largest, offset);
  const float other_total = ShuffleXor(w->total, offset);
  const float largest = other_largest > w->largest ? other_largest : w->largest;
  const float mine = WeightOf(w->largest, largest);
  const float others = WeightOf(other_largest, largest);
  w->total = w->total * mine + other_total * others;
  for (int32_t d = 0; d < kLaneDims; ++d) {
    w->sum[d] = w->sum[d] * mine + ShuffleXor(w->sum[d], offset) * others;
  }
  w->largest = largest;
}

// kLanes: lanes that share a key, kLanes * 8 >= head_dim. kHeads: query heads of a block.
template <int32_t kLanes, int32_t kHeads>
__global__ void __launch_bounds__(kThreads)
    AttendDecodeKernel(AttentionArgs args, const AttentionWork* all_work, int32_t num_splits,
                       Partials partials) {
  constexpr int32_t kGroups = kThreads / kLanes;
  __shared__ float warp_sum[kWarps][kHeads][kLanes * kLaneDims];
  __shared__ float warp_largest[kWarps][kHeads];
  __shared__ float warp_total[kWarps][kHeads];

  const int32_t work_index = static_cast<int32_t>(blockIdx.x);
  const AttentionWork work = all_work[work_index];
  if (work.num_tokens == 0) return;  // the whole block
  const int32_t split = static_cast<int32_t>(blockIdx.z);
  const int32_t group_heads = args.num_heads / args.cache.num_kv_heads;
  const int32_t chunks = CeilDiv(group_heads, kHeads);
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y) / chunks;
  const int32_t first_in_group = static_cast<int32_t>(blockIdx.y) % chunks * kHeads;
  const int32_t first_head = kv_head * group_heads + first_in_group;
  const int32_t num_heads = static_cast<int32_t>(Min(kHeads, group_heads - first_in_group));

  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
  const int32_t group = static_cast<int32_t>(threadIdx.x) / kLanes;
  const int32_t head_dim = args.cache.head_dim;
  const int32_t dim = lane % kLanes * kLaneDims;
  const bool has_dims = dim < head_dim;
  const int32_t* table = args.block_tables + static_cast<int64_t>(work.sequence) * args.max_blocks;
  const KeyRange keys =
      SplitKeys(SeenKeys(args.positions[work.first_token], args.sliding_window), split, num_splits);

  const float scale = kLog2E / sqrtf(static_cast<float>(head_dim));
  float query[kHeads][kLaneDims] = {};
#pragma unroll
  for (int32_t h = 0; h < kHeads; ++h) {
    if (h >= num_heads || !has_dims) continue;
    const float* from = args.queries + work.first_token * args.query_stride +
                        static_cast<int64_t>(first_head + h) * head_dim + dim;
#pragma unroll
    for (int32_t d = 0; d < kLaneDims; ++d) query[h][d] = from[d] * scale;
  }

  Weighted state[kHeads];
  for (int32_t base = keys.begin; base < keys.end; base += kGroups * kKeysAtOnce) {
    uint4 key[kKeysAtOnce];
    uint4 value[kKeysAtOnce];
#pragma unroll
    for (int32_t u = 0; u < kKeysAtOnce; ++u) {
      const int32_t position = base + u * kGroups + group;
      key[u] = make_uint4(0, 0, 0, 0);
      value[u] = make_uint4(0, 0, 0, 0);
      if (position >= keys.end || !has_dims) continue;
      const int64_t at = KeyOffset(table, position, args.cache.block_size, args.cache.num_kv_heads,
                                   kv_head, head_dim) +
                         dim;
      key[u] = *reinterpret_cast<const uint4*>(args.cache.keys + at);
      value[u] = *reinterpret_cast<const uint4*>(args.cache.values + at);
    }

    float score[kHeads][kKeysAtOnce];
#pragma unroll
    for (int32_t u = 0; u < kKeysAtOnce; ++u) {
      float k[kLaneDims];
      Widen8(key[u], k);
      const bool exists = base + u * kGroups + group < keys.end;
#pragma unroll
      for (int32_t h = 0; h < kHeads; ++h) {
        float dot = 0.0f;
#pragma unroll
        for (int32_t d = 0; d < kLaneDims; ++d) dot += query[h][d] * k[d];
#pragma unroll
        for (int32_t offset = kLanes / 2; offset > 0; offset /= 2) dot += ShuffleXor(dot, offset);
        score[h][u] = exists ? dot : -INFINITY;
      }
    }

#pragma unroll
    for (int32_t h = 0; h < kHeads; ++h) {
      float largest = state[h].largest;
#pragma unroll
      for (int32_t u = 0; u < kKeysAtOnce; ++u) {
        largest = score[h][u] > largest ? score[h][u] : largest;
      }
      const float fade = WeightOf(state[h].largest, largest);
      state[h].largest = largest;
      state[h].total *= fade;
#pragma unroll
      for (int32_t d = 0; d < kLaneDims; ++d) state[h].sum[d] *= fade;
#pragma unroll
      for (int32_t u = 0; u < kKeysAtOnce; ++u) {
        score[h][u] = WeightOf(score[h][u], largest);
        state[h].total += score[h][u];
      }
    }
#pragma unroll
    for (int32_t u = 0; u < kKeysAtOnce; ++u) {
      float v[kLaneDims];
      Widen8(value[u], v);
#pragma unroll
      for (int32_t h = 0; h < kHeads; ++h) {
#pragma unroll
        for (int32_t d = 0; d < kLaneDims; ++d) state[h].sum[d] += score[h][u] * v[d];
      }
    }
  }

#pragma unroll
  for (int32_t h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int32_t offset = kLanes; offset < kWarpSize; offset *= 2) MergeLanes(&state[h], offset);
    if (lane >= kLanes) continue;
#pragma unroll
    for (int32_t d = 0; d < kLaneDims; ++d) warp_sum[warp][h][dim + d] = state[h].sum[d];
    if (lane == 0) {
      warp_largest[warp][h] = state[h].largest;
      warp_total[warp][h] = state[h].total;
    }
  }
  __syncthreads();

  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < num_heads * head_dim; i += kThreads) {
    const int32_t h = i / head_dim;
    const int32_t d = i % head_dim;
    float largest = -INFINITY;
    for (int32_t w = 0; w < kWarps; ++w) {
      largest = warp_largest[w][h] > largest ? warp_largest[w][h] : largest;
    }
    float total = 0.0f;
    float sum = 0.0f;
    for (int32_t w = 0; w < kWarps; ++w) {
      const float weight = WeightOf(warp_largest[w][h], largest);
      total += weight * warp_total[w][h];
      sum += weight * warp_sum[w][h][d];
    }
    if (num_splits == 1) {
      const int64_t row = static_cast<int64_t>(work.first_token) * args.num_heads + first_head + h;
      args.out[row * head_dim + d] = ToBf16(sum / total);
      continue;
    }
    const int64_t at =
        PartialOffset(work_index, first_head + h, split, args.num_heads, num_splits, head_dim);
    partials.sums[at + d] = sum;
    if (d == 0) partials.softmax[at / head_dim] = make_float2(largest, total);
  }
}

// A block per token and head.
__global__ void __launch_bounds__(kThreads)
    MergeSplitsKernel(AttentionArgs args, const AttentionWork* all_work, int32_t num_splits,
                      Partials partials) {
  const int32_t work_index = static_cast<int32_t>(blockIdx.x);
  const int32_t head = static_cast<int32_t>(blockIdx.y);
  const AttentionWork work = all_work[work_index];
  if (work.num_tokens == 0) return;
  const int32_t head_dim = args.cache.head_dim;
  const int64_t at = PartialOffset(work_index, head, 0, args.num_heads, num_splits, head_dim);
  const float2* softmax = partials.softmax + at / head_dim;

  float largest = -INFINITY;
  for (int32_t s = 0; s < num_splits; ++s) {
    largest = softmax[s].x > largest ? softmax[s].x : largest;
  }
  for (int32_t d = static_cast<int32_t>(threadIdx.x); d < head_dim; d += kThreads) {
    float total = 0.0f;
    float sum = 0.0f;
    for (int32_t s = 0; s < num_splits; ++s) {
      const float weight = WeightOf(softmax[s].x, largest);
      total += weight * softmax[s].y;
      sum += weight * partials.sums[at + static_cast<int64_t>(s) * head_dim + d];
    }
    const int64_t row = static_cast<int64_t>(work.first_token) * args.num_heads + head;
    args.out[row * head_dim + d] = ToBf16(sum / total);
  }
}

struct DecodeCall {
  const AttentionArgs& args;
  const AttentionWork* work;
  int32_t num_work;
  int32_t num_splits;
  Partials partials;
  cudaStream_t stream;
};

template <int32_t kLanes, int32_t kHeads>
cudaError_t LaunchDecode(const DecodeCall& call) {
  const int32_t group_heads = call.args.num_heads / call.args.cache.num_kv_heads;
  const dim3 grid(
      static_cast<unsigned>(call.num_work),
      static_cast<unsigned>(call.args.cache.num_kv_heads * CeilDiv(group_heads, kHeads)),
      static_cast<unsigned>(call.num_splits));
  return Launch(AttendDecodeKernel<kLanes, kHeads>, {grid, kThreads, 0}, call.stream, call.args,
                call.work, call.num_splits, call.partials);
}

template <int32_t kLanes>
cudaError_t LaunchForHeads(const DecodeCall& call) {
  const int32_t group_heads = call.args.num_heads / call.args.cache.num_kv_heads;
  if (group_heads == 1) return LaunchDecode<kLanes, 1>(call);
  if (group_heads == 2) return LaunchDecode<kLanes, 2>(call);
  return LaunchDecode<kLanes, kMaxHeads>(call);
}

cudaError_t LaunchForDims(const DecodeCall& call) {
  const int32_t lanes = CeilDiv(call.args.cache.head_dim, kLaneDims);
  if (lanes <= 1) return LaunchForHeads<1>(call);
  if (lanes <= 2) return LaunchForHeads<2>(call);
  if (lanes <= 4) return LaunchForHeads<4>(call);
  if (lanes <= 8) return LaunchForHeads<8>(call);
  if (lanes <= 16) return LaunchForHeads<16>(call);
  return LaunchForHeads<32>(call);
}

}  // namespace

cudaError_t AttendDecode(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                         int32_t num_splits, void* workspace, cudaStream_t stream) {
  const int32_t head_dim = args.cache.head_dim;
  if (head_dim < 8 || head_dim % 8 != 0 || head_dim > kMaxHeadDim || num_splits < 1 ||
      num_splits > kMaxSplits || args.num_heads % args.cache.num_kv_heads != 0 ||
      (num_splits > 1 && workspace == nullptr)) {
    return cudaErrorInvalidValue;
  }
  if (num_work == 0) return cudaSuccess;
  Partials partials = {};
  if (num_splits > 1) {
    partials = PlacePartials(workspace, num_work, args.num_heads, head_dim, num_splits);
  }
  const cudaError_t error = LaunchForDims({args, work, num_work, num_splits, partials, stream});
  if (error != cudaSuccess || num_splits == 1) return error;
  const dim3 grid(static_cast<unsigned>(num_work), static_cast<unsigned>(args.num_heads));
  return Launch(MergeSplitsKernel, {grid, kThreads, 0}, stream, args, work, num_splits, partials);
}

}  // namespace adamoe::cuda
