#include "server/cuda/cuda_gpu.h"
#include "server/device/cuda_driver.h"
#include "tests/gpu/backend.h"

namespace adamoe {

bool HasGpu() { return FindCudaDevice().ok(); }

absl::StatusOr<std::unique_ptr<cuda::Gpu>> OpenGpu() {
  const auto device = FindCudaDevice();
  if (!device.ok()) return device.status();
  return cuda::OpenCudaGpu(device->ordinal);
}

}  // namespace adamoe
