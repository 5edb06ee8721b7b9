// Random weights made on the device, for benchmarks. The contracts at the top of cuda_types.h hold.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_RANDOM_FILL_H_
#define ADAMOE_SERVER_KERNELS_CUDA_RANDOM_FILL_H_

#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"

namespace adamoe::cuda {

// out[i] uniform in [-scale, scale), a function of (seed, i) alone. Variance scale^2 / 3.
cudaError_t FillRandomBf16(Bf16* out, int64_t num_elements, float scale, uint64_t seed,
                           cudaStream_t stream);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_RANDOM_FILL_H_
