#include "tests/gpu/bench/device_rates.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>

#include "server/base/status_macros.h"
#include "server/kernels/cuda/dense_linear.h"
#include "server/kernels/cuda/random_fill.h"

namespace adamoe {
namespace {

constexpr int64_t kCopyBytes = int64_t{4} << 30;
constexpr int32_t kSide = 8192;
constexpr int kRuns = 5;

// Milliseconds of the fastest of a few runs, after one that is not timed.
absl::StatusOr<double> FastestMs(cudaStream_t stream, const std::function<absl::Status()>& run) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  RETURN_IF_ERROR(cuda::CudaStatus("cudaEventCreate", cudaEventCreate(&begin)));
  RETURN_IF_ERROR(cuda::CudaStatus("cudaEventCreate", cudaEventCreate(&end)));
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= kRuns; ++i) {
    RETURN_IF_ERROR(cuda::CudaStatus("cudaEventRecord", cudaEventRecord(begin, stream)));
    RETURN_IF_ERROR(run());
    RETURN_IF_ERROR(cuda::CudaStatus("cudaEventRecord", cudaEventRecord(end, stream)));
    RETURN_IF_ERROR(cuda::CudaStatus("cudaEventSynchronize", cudaEventSynchronize(end)));
    float ms = 0.0f;
    RETURN_IF_ERROR(
        cuda::CudaStatus("cudaEventElapsedTime", cudaEventElapsedTime(&ms, begin, end)));
    if (i > 0) fastest = std::min(fastest, double{ms});
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return fastest;
}

}  // namespace

absl::StatusOr<DeviceRates> MeasureRates(cuda::Gpu& gpu) {
  const cudaStream_t stream = gpu.stream();
  ASSIGN_OR_RETURN(std::byte* const memory, gpu.Allocate(2 * kCopyBytes));
  ASSIGN_OR_RETURN(std::byte* const workspace, gpu.Allocate(cuda::DenseLinear::kWorkspaceBytes));
  ASSIGN_OR_RETURN(const auto linear, cuda::DenseLinear::Create(workspace));
  ASSIGN_OR_RETURN(const double copy_ms, FastestMs(stream, [&] {
                     return cuda::CudaStatus(
                         "cudaMemcpyAsync", cudaMemcpyAsync(memory, memory + kCopyBytes, kCopyBytes,
                                                            cudaMemcpyDeviceToDevice, stream));
                   }));
  constexpr int64_t kElements = int64_t{kSide} * kSide;
  auto* const matrices = reinterpret_cast<cuda::Bf16*>(memory);
  RETURN_IF_ERROR(cuda::CudaStatus("FillRandomBf16",
                                   cuda::FillRandomBf16(matrices, 2 * kElements, 1.0f, 1, stream)));
  ASSIGN_OR_RETURN(const double product_ms, FastestMs(stream, [&] {
                     return linear->Run({.x = matrices,
                                         .w = matrices + kElements,
                                         .y = matrices + 2 * kElements,
                                         .num_rows = kSide,
                                         .inputs = kSide,
                                         .outputs = kSide,
                                         .output = cuda::DenseLinear::Output::kBf16},
                                        stream);
                   }));
  return DeviceRates{.bytes_per_second = 2.0 * kCopyBytes / (copy_ms * 1e-3),
                     .flops_per_second = 2.0 * kElements * kSide / (product_ms * 1e-3)};
}

}  // namespace adamoe
