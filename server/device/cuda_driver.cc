#include "server/device/cuda_driver.h"

#include <dlfcn.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

constexpr char kLibrary[] = "libcuda.so.1";

// The driver's C interface, whose results are 0 for success. The numbers are those of cuda.h.
struct Driver {
  int (*init)(unsigned flags);
  int (*device_count)(int* count);
  int (*device)(int* device, int ordinal);
  int (*device_name)(char* name, int size, int device);
  int (*device_attribute)(int* value, int attribute, int device);
  int (*error_name)(int error, const char** name);
};
constexpr int kCapabilityMajor = 75;
constexpr int kCapabilityMinor = 76;

template <typename Function>
bool Resolve(void* library, const char* symbol, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, symbol));
  return *function != nullptr;
}

absl::StatusOr<Driver> OpenDriver() {
  void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("no NVIDIA driver: ", dlerror()));
  }
  Driver driver;
  const bool resolved = Resolve(library, "cuInit", &driver.init) &&
                        Resolve(library, "cuDeviceGetCount", &driver.device_count) &&
                        Resolve(library, "cuDeviceGet", &driver.device) &&
                        Resolve(library, "cuDeviceGetName", &driver.device_name) &&
                        Resolve(library, "cuDeviceGetAttribute", &driver.device_attribute) &&
                        Resolve(library, "cuGetErrorName", &driver.error_name);
  if (resolved) return driver;
  return absl::FailedPreconditionError(
      absl::StrCat(kLibrary, " is not a CUDA driver: ", dlerror()));
}

absl::Status Check(const Driver& driver, const char* call, int result) {
  if (result == 0) return absl::OkStatus();
  const char* name = nullptr;
  if (driver.error_name(result, &name) != 0 || name == nullptr) name = "unknown error";
  return absl::FailedPreconditionError(
      absl::StrCat("the NVIDIA driver does not work: ", call, ": ", name, " (", result, ")"));
}

struct Capability {
  int major = 0;
  int minor = 0;
};

absl::StatusOr<Capability> CapabilityOf(const Driver& driver, int device) {
  Capability capability;
  RETURN_IF_ERROR(Check(driver, "cuDeviceGetAttribute",
                        driver.device_attribute(&capability.major, kCapabilityMajor, device)));
  RETURN_IF_ERROR(Check(driver, "cuDeviceGetAttribute",
                        driver.device_attribute(&capability.minor, kCapabilityMinor, device)));
  return capability;
}

}  // namespace

absl::StatusOr<CudaDevice> FindCudaDevice() {
  ASSIGN_OR_RETURN(const Driver driver, OpenDriver());
  RETURN_IF_ERROR(Check(driver, "cuInit", driver.init(0)));
  int count = 0;
  RETURN_IF_ERROR(Check(driver, "cuDeviceGetCount", driver.device_count(&count)));
  std::string others;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    int device = 0;
    char name[256] = "";
    RETURN_IF_ERROR(Check(driver, "cuDeviceGet", driver.device(&device, ordinal)));
    RETURN_IF_ERROR(
        Check(driver, "cuDeviceGetName", driver.device_name(name, sizeof(name), device)));
    ASSIGN_OR_RETURN(const Capability capability, CapabilityOf(driver, device));
    if (capability.major == kCudaMajor && capability.minor == kCudaMinor) {
      return CudaDevice{ordinal, name};
    }
    absl::StrAppend(&others, others.empty() ? "" : ", ", name, " has ", capability.major, ".",
                    capability.minor);
  }
  if (others.empty()) return absl::FailedPreconditionError("the NVIDIA driver shows no GPU");
  return absl::FailedPreconditionError(absl::StrCat("no GPU of compute capability ", kCudaMajor,
                                                    ".", kCudaMinor, " (Hopper): ", others));
}

}  // namespace adamoe
