// What NVIDIA's driver says of this machine, asked without CUDA's headers or libraries: on a
// machine without a driver that is an answer, not an error. Thread-safe.
#ifndef ADAMOE_SERVER_DEVICE_CUDA_DRIVER_H_
#define ADAMOE_SERVER_DEVICE_CUDA_DRIVER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace adamoe {

// The compute capability that the kernels are built for (sm_90a: Hopper, and no other).
inline constexpr int kCudaMajor = 9;
inline constexpr int kCudaMinor = 0;

struct CudaDevice {
  int32_t ordinal = 0;  // among those that CUDA_VISIBLE_DEVICES leaves
  std::string name;
};

// The first device of that capability. FAILED_PRECONDITION says what is missing: the driver
// (libcuda.so.1), a device, or one of the capability. Starts the driver, which then stays loaded.
absl::StatusOr<CudaDevice> FindCudaDevice();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_DEVICE_CUDA_DRIVER_H_
