// .safetensors: any bytes give a file whose tensors can all be read to their last byte, or an error
// that names it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/weights/safetensors.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

void ReadAll(const adamoe::SafetensorsFile& file) {
  for (const auto& [name, entry] : file.entries()) {
    Require(reinterpret_cast<uintptr_t>(entry.data) % adamoe::SizeOf(entry.dtype) == 0);
    uint64_t elements = 1;
    for (int64_t dimension : entry.shape) elements *= static_cast<uint64_t>(dimension);
    Require(elements * adamoe::SizeOf(entry.dtype) == entry.num_bytes);
    const auto* bytes = static_cast<const volatile uint8_t*>(entry.data);
    for (size_t i = 0; i < entry.num_bytes; ++i) (void)bytes[i];
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("safetensors_fuzz", MFD_CLOEXEC);
  Require(fd >= 0);
  Require(write(fd, data, size) == static_cast<ssize_t>(size));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const auto file = adamoe::SafetensorsFile::Open(path);
  if (file.ok()) {
    ReadAll(**file);
  } else {
    Require(file.status().code() == absl::StatusCode::kInvalidArgument);
    Require(file.status().message().find(path) == 0);
  }
  close(fd);
  return 0;
}
