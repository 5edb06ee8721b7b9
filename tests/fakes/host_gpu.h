// A Gpu of host memory, whose "kernels" run at once on the host (host_cuda_kernels.cc, or the real
// ones under emulation). A graph is its closure, called at every launch: one that holds something
// by reference that it should hold by value gives wrong results, as on a device. Faults can be
// planted. Not thread-safe.
#ifndef ADAMOE_TESTS_FAKES_HOST_GPU_H_
#define ADAMOE_TESTS_FAKES_HOST_GPU_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "server/cuda/gpu.h"

namespace adamoe::cuda {

// What a test sees of a HostGpu and does to it; outlives it.
struct HostGpuControl {
  int64_t free_bytes = int64_t{1} << 30;
  int32_t num_multiprocessors = 4;
  // The call to Synchronize, from 0 on, that fails; -1: none. With `sticky` so does every later
  // call of anything.
  int fail_synchronize = -1;
  bool sticky = false;
  bool fail_capture = false;

  int num_synchronizes = 0;
  int num_launches = 0;  // of graphs
  int64_t allocated_bytes = 0;
  int num_pinned = 0;  // pieces not given back
};

std::unique_ptr<Gpu> MakeHostGpu(HostGpuControl* control);

}  // namespace adamoe::cuda

#endif  // ADAMOE_TESTS_FAKES_HOST_GPU_H_
