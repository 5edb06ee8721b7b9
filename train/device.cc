#include "train/device.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

// The driver first: without one the rest is not worth loading. The program is linked with
// LibTorch's CPU part alone, so that it runs where no CUDA library is; loading the other part
// registers its operations. Loading what is loaded does nothing.
absl::Status LoadCuda() {
  for (const char* library : {"libcuda.so.1", "libtorch_cuda.so"}) {
    if (dlopen(library, RTLD_NOW | RTLD_GLOBAL) != nullptr) continue;
    const char* error = dlerror();
    return absl::FailedPreconditionError(
        absl::StrCat("device cuda: ", error == nullptr ? library : error));
  }
  if (!at::hasCUDA()) return absl::FailedPreconditionError("device cuda: no GPU was found");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<at::Device> DeviceNamed(absl::string_view name) {
  if (name == "cpu") return at::Device(at::kCPU);
  if (name != "cuda" && name != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("device \"", name, "\": expected auto, cpu or cuda"));
  }
  const absl::Status cuda = LoadCuda();
  if (cuda.ok()) return at::Device(at::kCUDA, 0);
  if (name == "auto") return at::Device(at::kCPU);
  return cuda;
}

void MoveTo(at::Device device, MixtralParameters* parameters) {
  for (at::Tensor* tensor : AllTensors(parameters)) *tensor = tensor->to(device);
}

at::ScalarType TrainingMatrixType(at::Device device, bool allow_bfloat16) {
  const bool has_bfloat16 = device.is_cuda() || __builtin_cpu_supports("avx512bf16");
  return allow_bfloat16 && has_bfloat16 ? at::kBFloat16 : at::kFloat;
}

}  // namespace adamoe
