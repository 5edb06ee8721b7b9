#include "tests/fakes/host_gpu.h"
#include "tests/gpu/backend.h"

namespace adamoe {

bool HasGpu() { return true; }

absl::StatusOr<std::unique_ptr<cuda::Gpu>> OpenGpu() {
  static cuda::HostGpuControl* const control =
      new cuda::HostGpuControl{.free_bytes = int64_t{4} << 30};
  return cuda::MakeHostGpu(control);
}

}  // namespace adamoe
