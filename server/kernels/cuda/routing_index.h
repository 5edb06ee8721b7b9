// The arithmetic of the router's counting sort. Pure functions, the same on the host and on the
// device.
//
// The tokens are cut into segments so that every (expert, segment) pair has a warp of its own: unit
// expert * num_segments + segment. Units in order are rows in order: by expert, then by token.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_ROUTING_INDEX_H_
#define ADAMOE_SERVER_KERNELS_CUDA_ROUTING_INDEX_H_

#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"
#include "server/kernels/cuda/host_device.h"

namespace adamoe::cuda {

constexpr int32_t kGatherWarps = 32;
constexpr int32_t kMaxUnits = kMaxTrueExperts > kGatherWarps ? kMaxTrueExperts : kGatherWarps;

// At least 1; num_experts * segments <= kMaxUnits.
ADAMOE_HD constexpr int32_t NumSegments(int32_t num_experts) {
  return num_experts < kGatherWarps ? kGatherWarps / num_experts : 1;
}

// Tokens of a segment, a multiple of 32; the segments together hold num_tokens or more.
ADAMOE_HD constexpr int32_t SegmentTokens(int32_t num_tokens, int32_t num_segments) {
  return ((num_tokens + num_segments - 1) / num_segments + 31) / 32 * 32;
}

// How many of the experts below `expert` are kept.
ADAMOE_HD constexpr uint64_t ExpertsBelow(uint64_t kept, int32_t expert) {
  return kept & ((uint64_t{1} << expert) - 1);
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_ROUTING_INDEX_H_
