// A real GPU, by the CUDA runtime. Thread-compatible, as gpu.h says.
#ifndef ADAMOE_SERVER_CUDA_CUDA_GPU_H_
#define ADAMOE_SERVER_CUDA_CUDA_GPU_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "server/cuda/gpu.h"

namespace adamoe::cuda {

// Device `ordinal` of those the driver shows. FAILED_PRECONDITION unless its compute capability is
// 9.0; INTERNAL naming the call that failed.
absl::StatusOr<std::unique_ptr<Gpu>> OpenCudaGpu(int32_t ordinal);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_CUDA_GPU_H_
