// The router: logits, picks, and the counting sort that gathers the picks by expert.
//
// Picks: a warp per token, every lane with up to four of the n + m logits. The k rounds of arg-max
// leave, for each token, a bit per true expert kept and the weights in ascending order of expert.
// Sort: one block. A warp counts the bits of one expert over one segment of the tokens, the counts
// are summed in order, and the same warps walk their tokens again and put the rows in place. No
// atomics, so rows always come in the same order.
#include "server/kernels/cuda/router.h"

#include <cmath>

#include "server/kernels/cuda/device.h"
#include "server/kernels/cuda/routing_index.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kMaxWidth = kMaxTrueExperts + kMaxNullExperts;
constexpr int32_t kValuesPerLane = kMaxWidth / kWarpSize;
// Below this, a sum of probabilities has lost digits to underflow.
constexpr float kSmallestSum = 1e-30f;

// --- logits ---

constexpr int32_t kLogitWarps = 16;
constexpr int32_t kLogitTokens = 4;   // of a block
constexpr int32_t kLogitOutputs = 4;  // of a warp

// A block makes all logits of 4 tokens. A warp takes 4 outputs and a slice of the inputs; with few
// outputs several warps share them and add their slices up in order.
__global__ void __launch_bounds__(kLogitWarps* kWarpSize)
    LogitsKernel(const float* x, const float* router, int32_t num_tokens, int32_t hidden,
                 int32_t width, float* logits) {
  __shared__ float partial[kLogitWarps * kLogitTokens * kLogitOutputs];
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
  const int32_t first_token = static_cast<int32_t>(blockIdx.x) * kLogitTokens;
  const int32_t num_groups = CeilDiv(width, kLogitOutputs);
  const int32_t num_slices = num_groups < kLogitWarps ? kLogitWarps / num_groups : 1;
  const int32_t slice = warp % num_slices;
  const int32_t groups_at_once = kLogitWarps / num_slices;

  for (int32_t base = 0; base < num_groups; base += groups_at_once) {
    const int32_t group = base + warp / num_slices;
    const int32_t first_output = group * kLogitOutputs;
    const bool works = warp / num_slices < groups_at_once && group < num_groups;
    float sum[kLogitTokens][kLogitOutputs] = {};
    if (works) {
      const int32_t step = 4 * kWarpSize * num_slices;
      for (int32_t i = 4 * (slice * kWarpSize + lane); i < hidden; i += step) {
        float4 w[kLogitOutputs];
#pragma unroll
        for (int32_t o = 0; o < kLogitOutputs; ++o) {
          const int64_t row = Min(first_output + o, width - 1);
          w[o] = *reinterpret_cast<const float4*>(router + row * hidden + i);
        }
#pragma unroll
        for (int32_t t = 0; t < kLogitTokens; ++t) {
          const int64_t token = Min(first_token + t, num_tokens - 1);
          const float4 v = *reinterpret_cast<const float4*>(x + token * hidden + i);
#pragma unroll
          for (int32_t o = 0; o < kLogitOutputs; ++o) {
            sum[t][o] += v.x * w[o].x + v.y * w[o].y + v.z * w[o].z + v.w * w[o].w;
          }
        }
      }
    }
#pragma unroll
    for (int32_t t = 0; t < kLogitTokens; ++t) {
#pragma unroll
      for (int32_t o = 0; o < kLogitOutputs; ++o) {
        const float total = WarpSum(sum[t][o]);
        if (lane == 0) partial[(warp * kLogitTokens + t) * kLogitOutputs + o] = total;
      }
    }
    __syncthreads();
    if (works && slice == 0 && lane < kLogitTokens * kLogitOutputs) {
      const int32_t t = lane / kLogitOutputs;
      const int32_t o = lane % kLogitOutputs;
      float total = 0.0f;
      for (int32_t s = 0; s < num_slices; ++s) {
        total += partial[((warp + s) * kLogitTokens + t) * kLogitOutputs + o];
      }
      if (first_token + t < num_tokens && first_output + o < width) {
        logits[static_cast<int64_t>(first_token + t) * width + first_output + o] = total;
      }
    }
    __syncthreads();
  }
}

// --- picks ---

// A lane's candidate in a round of arg-max.
struct Candidate {
  float probability;
  int32_t index;
};

// The likelier, and of equals the one of lower index.
__device__ Candidate Better(const Candidate& a, const Candidate& b) {
  const bool first =
      a.probability > b.probability || (a.probability == b.probability && a.index < b.index);
  return first ? a : b;
}

// exp(x - largest), 0 for what is not a number; equality serves infinite logits.
__device__ float Weight(float x, float largest) {
  if (x == largest) return 1.0f;
  const float weight = expf(x - largest);
  return weight == weight ? weight : 0.0f;
}

// Of the numbers among `values`, in every lane.
__device__ float LargestNumber(const float (&values)[kValuesPerLane],
                               const bool (&counts)[kValuesPerLane]) {
  float largest = -INFINITY;
  for (int32_t j = 0; j < kValuesPerLane; ++j) {
    if (counts[j] && values[j] > largest) largest = values[j];
  }
  return WarpMax(largest);
}

// Picks the experts of one token. All lanes of a warp together. Lane l has the logits l + 32 j.
__device__ void PickExperts(const RouteArgs& args, const DeviceRouting& routing, int32_t token,
                            int32_t lane) {
  const int32_t num_experts = routing.num_experts;
  const int32_t width = num_experts + args.num_null_experts;
  const float bias = args.null_bias != nullptr ? args.null_bias[token] : 0.0f;
  const uint32_t limit = args.max_experts != nullptr ? args.max_experts[token] : 0;

  float logit[kValuesPerLane];
  bool exists[kValuesPerLane];
  for (int32_t j = 0; j < kValuesPerLane; ++j) {
    const int32_t i = lane + kWarpSize * j;
    exists[j] = i < width;
    logit[j] = exists[j] ? args.logits[static_cast<int64_t>(token) * width + i] : 0.0f;
    if (i >= num_experts) logit[j] += bias;
  }

  const float largest = LargestNumber(logit, exists);
  float probability[kValuesPerLane];
  float total = 0.0f;
  for (int32_t j = 0; j < kValuesPerLane; ++j) {
    probability[j] = exists[j] ? Weight(logit[j], largest) : 0.0f;
    total += probability[j];
  }
  total = WarpSum(total);
  for (int32_t j = 0; j < kValuesPerLane; ++j) {
    if (total != 0.0f) probability[j] /= total;
  }

  bool picked[kValuesPerLane] = {};
  bool kept[kValuesPerLane] = {};
  uint64_t kept_experts = 0;
  uint32_t num_kept = 0;
  int32_t num_null = 0;
  int32_t num_dropped = 0;
  float kept_sum = 0.0f;
  for (int32_t rank = 0; rank < args.experts_per_token; ++rank) {
    Candidate best = {-1.0f, kMaxWidth};
    for (int32_t j = 0; j < kValuesPerLane; ++j) {
      if (exists[j] && !picked[j]) best = Better(best, {probability[j], lane + kWarpSize * j});
    }
    for (int32_t offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const float other_probability = ShuffleXor(best.probability, offset);
      const int32_t other_index = ShuffleXor(best.index, offset);
      best = Better(best, {other_probability, other_index});
    }
    const bool is_null = best.index >= num_experts;
    const bool is_dropped = !is_null && limit != 0 && num_kept >= limit;
    for (int32_t j = 0; j < kValuesPerLane; ++j) {
      if (lane + kWarpSize * j != best.index) continue;
      picked[j] = true;
      kept[j] = !is_null && !is_dropped;
    }
    if (is_null) {
      ++num_null;
    } else if (is_dropped) {
      ++num_dropped;
    } else {
      kept_experts |= uint64_t{1} << best.index;
      ++num_kept;
      kept_sum += best.probability;
    }
  }

  // Weights are the probabilities over their sum; where those underflow, a softmax of the kept
  // logits, which is the same number.
  float weight[kValuesPerLane];
  for (int32_t j = 0; j < kValuesPerLane; ++j) weight[j] = probability[j];
  if (kept_sum < kSmallestSum) {
    const float largest_kept = LargestNumber(logit, kept);
    float sum = 0.0f;
    for (int32_t j = 0; j < kValuesPerLane; ++j) {
      weight[j] = kept[j] ? Weight(logit[j], largest_kept) : 0.0f;
      sum += weight[j];
    }
    kept_sum = WarpSum(sum);
    if (kept_sum == 0.0f) kept_sum = 1.0f;
  }
  for (int32_t j = 0; j < kValuesPerLane; ++j) {
    if (!kept[j]) continue;
    const int32_t place = __popcll(ExpertsBelow(kept_experts, lane + kWarpSize * j));
    routing.kept_weights[static_cast<int64_t>(token) * routing.max_picks + place] =
        weight[j] / kept_sum;
  }
  if (lane == 0) {
    routing.kept_experts[token] = kept_experts;
    routing.num_token_rows[token] = static_cast<int32_t>(num_kept);
    if (args.null_slots != nullptr) {
      args.null_slots[token * args.slot_stride] = static_cast<uint8_t>(num_null);
    }
    if (args.dropped != nullptr) {
      args.dropped[token * args.slot_stride] = static_cast<uint8_t>(num_dropped);
    }
  }
}

// Picks for tokens first, first + step, ...: a warp's share.
__device__ void PickForTokens(const RouteArgs& args, const DeviceRouting& routing, int32_t first,
                              int32_t step) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
  const int32_t num_valid =
      args.num_valid_tokens != nullptr ? *args.num_valid_tokens : routing.num_tokens;
  for (int32_t token = first; token < routing.num_tokens; token += step) {
    if (token < num_valid) {
      PickExperts(args, routing, token, lane);
    } else if (lane == 0) {
      routing.kept_experts[token] = 0;
      routing.num_token_rows[token] = 0;
    }
  }
}

// --- sort ---

struct SortCounts {
  int32_t rows[kMaxUnits];       // of each unit
  int32_t first_row[kMaxUnits];  // of each unit
};

// Whether each lane's token of [base, base + 32) keeps `expert`, as bits.
__device__ uint32_t KeepersAmong(const DeviceRouting& routing, int32_t expert, int32_t token,
                                 int32_t end) {
  return Ballot(token < end && (routing.kept_experts[token] >> expert & 1) != 0);
}

__device__ void SumInOrder(const DeviceRouting& routing, int32_t num_segments, SortCounts* counts) {
  int32_t rows = 0;
  int32_t num_active = 0;
  for (int32_t e = 0; e < routing.num_experts; ++e) {
    routing.expert_begin[e] = rows;
    for (int32_t s = 0; s < num_segments; ++s) {
      counts->first_row[e * num_segments + s] = rows;
      rows += counts->rows[e * num_segments + s];
    }
    if (rows > routing.expert_begin[e]) routing.active_experts[num_active++] = e;
  }
  routing.expert_begin[routing.num_experts] = rows;
  *routing.num_active_experts = num_active;
}

// A block of kGatherWarps warps.
__device__ void GatherByExpert(const DeviceRouting& routing, SortCounts* counts) {
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
  const int32_t num_segments = NumSegments(routing.num_experts);
  const int32_t num_units = routing.num_experts * num_segments;
  const int32_t segment_tokens = SegmentTokens(routing.num_tokens, num_segments);

  for (int32_t unit = warp; unit < num_units; unit += kGatherWarps) {
    const int32_t expert = unit / num_segments;
    const int32_t begin = unit % num_segments * segment_tokens;
    const int32_t end = static_cast<int32_t>(Min(begin + segment_tokens, routing.num_tokens));
    int32_t rows = 0;
#pragma unroll 4
    for (int32_t base = begin; base < end; base += kWarpSize) {
      rows += __popc(KeepersAmong(routing, expert, base + lane, end));
    }
    if (lane == 0) counts->rows[unit] = rows;
  }
  __syncthreads();
  if (threadIdx.x == 0) SumInOrder(routing, num_segments, counts);
  __syncthreads();

  for (int32_t unit = warp; unit < num_units; unit += kGatherWarps) {
    const int32_t expert = unit / num_segments;
    const int32_t begin = unit % num_segments * segment_tokens;
    const int32_t end = static_cast<int32_t>(Min(begin + segment_tokens, routing.num_tokens));
    int32_t next_row = counts->first_row[unit];
#pragma unroll 4
    for (int32_t base = begin; base < end; base += kWarpSize) {
      const int32_t token = base + lane;
      const uint32_t keepers = KeepersAmong(routing, expert, token, end);
      if (keepers >> lane & 1) {
        const int32_t row = next_row + __popc(keepers & ((1u << lane) - 1));
        const int64_t place = static_cast<int64_t>(token) * routing.max_picks +
                              __popcll(ExpertsBelow(routing.kept_experts[token], expert));
        routing.row_token[row] = token;
        routing.row_weight[row] = routing.kept_weights[place];
        routing.token_rows[place] = row;
      }
      next_row += __popc(keepers);
    }
  }
}

// --- kernels ---

constexpr int32_t kPickWarps = 8;                 // of a block that only picks
constexpr int32_t kFewTokens = 4 * kGatherWarps;  // up to here one block does everything

__global__ void __launch_bounds__(kPickWarps* kWarpSize)
    PickKernel(RouteArgs args, DeviceRouting routing) {
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  PickForTokens(args, routing, static_cast<int32_t>(blockIdx.x) * kPickWarps + warp,
                static_cast<int32_t>(gridDim.x) * kPickWarps);
}

__global__ void __launch_bounds__(kGatherWarps* kWarpSize) GatherKernel(DeviceRouting routing) {
  __shared__ SortCounts counts;
  GatherByExpert(routing, &counts);
}

__global__ void __launch_bounds__(kGatherWarps* kWarpSize)
    PickAndGatherKernel(RouteArgs args, DeviceRouting routing) {
  __shared__ SortCounts counts;
  PickForTokens(args, routing, static_cast<int32_t>(threadIdx.x) / kWarpSize, kGatherWarps);
  __syncthreads();
  GatherByExpert(routing, &counts);
}

}  // namespace

cudaError_t RouterLogits(const float* x, const float* router, int32_t num_tokens, int32_t hidden,
                         int32_t width, float* logits, cudaStream_t stream) {
  if (hidden % 4 != 0 || width < 1 || width > kMaxWidth) return cudaErrorInvalidValue;
  if (num_tokens == 0) return cudaSuccess;
  return Launch(
      LogitsKernel,
      {dim3(static_cast<unsigned>(CeilDiv(num_tokens, kLogitTokens))), kLogitWarps * kWarpSize, 0},
      stream, x, router, num_tokens, hidden, width, logits);
}

cudaError_t Route(const RouteArgs& args, const DeviceRouting& routing, cudaStream_t stream) {
  if (routing.num_experts < 1 || routing.num_experts > kMaxTrueExperts ||
      args.num_null_experts < 0 || args.num_null_experts > kMaxNullExperts ||
      args.experts_per_token < 1 ||
      args.experts_per_token > routing.num_experts + args.num_null_experts) {
    return cudaErrorInvalidValue;
  }
  if (routing.num_tokens == 0) return cudaSuccess;
  if (routing.num_tokens <= kFewTokens) {
    return Launch(PickAndGatherKernel, {dim3(1), kGatherWarps * kWarpSize, 0}, stream, args,
                  routing);
  }
  const int32_t num_blocks = CeilDiv(routing.num_tokens, kPickWarps);
  const cudaError_t error =
      Launch(PickKernel, {dim3(static_cast<unsigned>(num_blocks)), kPickWarps * kWarpSize, 0},
             stream, args, routing);
  if (error != cudaSuccess) return error;
  return Launch(GatherKernel, {dim3(1), kGatherWarps * kWarpSize, 0}, stream, routing);
}

}  // namespace adamoe::cuda
