// Counting of rows as the expert kernels run them. Device code.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_EXPERT_COUNTS_H_
#define ADAMOE_SERVER_KERNELS_CUDA_EXPERT_COUNTS_H_

#include <cstdint>

#include "server/kernels/cuda/device.h"
#include "server/kernels/cuda/experts.h"

namespace adamoe::cuda {

// Adds 1 to the byte, by way of the word around it. Its neighbours keep theirs: no byte counts past
// the picks of a token, which is below 256.
__device__ inline void CountInByte(uint8_t* byte) {
  const auto address = reinterpret_cast<uintptr_t>(byte);
  const unsigned shift = 8 * static_cast<unsigned>(address % 4);
  atomicAdd(reinterpret_cast<unsigned*>(address - address % 4), 1u << shift);
}

// Counts rows [begin, end) of `expert` as run. All threads of a block together, for rows that no
// other block counts.
__device__ inline void CountRows(const ExpertsArgs& args, const DeviceRouting& routing,
                                 int32_t expert, int32_t begin, int32_t end) {
  for (int32_t row = begin + static_cast<int32_t>(threadIdx.x); row < end;
       row += static_cast<int32_t>(blockDim.x)) {
    CountInByte(args.executed + routing.row_token[row] * args.slot_stride);
  }
  if (threadIdx.x == 0) atomicAdd(args.expert_rows + expert, static_cast<unsigned>(end - begin));
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_EXPERT_COUNTS_H_
