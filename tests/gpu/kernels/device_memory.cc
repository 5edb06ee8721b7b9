#include "tests/gpu/kernels/device_memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(ADAMOE_CUDA_EMULATED)
#include <sys/mman.h>
#include <unistd.h>
#else
#include <cuda_runtime_api.h>
#endif

namespace adamoe {
namespace {

// Kernels ask for pointers aligned to 16 bytes, a routing for 256.
constexpr size_t kAlignment = 256;

[[noreturn]] void Fail(const char* what, const char* why) {
  std::fprintf(stderr, "%s: %s\n", what, why);
  std::abort();
}

}  // namespace

#if defined(ADAMOE_CUDA_EMULATED)

DeviceMemory::DeviceMemory(size_t num_bytes) : num_bytes_(num_bytes) {
  // As close to the forbidden page as 16-byte loads allow; pieces of a page or more as the
  // strictest alignment does.
  const size_t alignment = num_bytes < 4096 && num_bytes % kAlignment != 0 ? 16 : kAlignment;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t padded = (num_bytes + alignment - 1) / alignment * alignment;
  const size_t readable = (padded / page + 1) * page;
  allocated_ = readable + page;
  allocation_ =
      mmap(nullptr, allocated_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (allocation_ == MAP_FAILED) Fail("mmap", "no memory");
  char* start = static_cast<char*>(allocation_);
  std::memset(start, 0xff, readable);
  if (mprotect(start + readable, page, PROT_NONE) != 0) Fail("mprotect", "refused");
  data_ = start + readable - padded;
}

DeviceMemory::~DeviceMemory() { munmap(allocation_, allocated_); }

void DeviceMemory::Write(const void* host, size_t num_bytes) {
  std::memcpy(data_, host, num_bytes);
}

void DeviceMemory::Read(void* host, size_t num_bytes) const { std::memcpy(host, data_, num_bytes); }

#else

namespace {

constexpr size_t kGuardBytes = 4096;

void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Fail(what, cudaGetErrorString(error));
}

}  // namespace

DeviceMemory::DeviceMemory(size_t num_bytes) : num_bytes_(num_bytes) {
  allocated_ = (num_bytes + kAlignment - 1) / kAlignment * kAlignment + 2 * kGuardBytes;
  Check(cudaMalloc(&allocation_, allocated_), "cudaMalloc");
  Check(cudaMemset(allocation_, 0xff, allocated_), "cudaMemset");
  data_ = static_cast<char*>(allocation_) + kGuardBytes;
}

DeviceMemory::~DeviceMemory() {
  std::vector<uint8_t> all(allocated_);
  Check(cudaMemcpy(all.data(), allocation_, allocated_, cudaMemcpyDeviceToHost), "reading guards");
  const auto untouched = [](uint8_t byte) { return byte == 0xff; };
  if (!std::all_of(all.begin(), all.begin() + kGuardBytes, untouched) ||
      !std::all_of(all.begin() + kGuardBytes + num_bytes_, all.end(), untouched)) {
    Fail("a kernel", "wrote outside its memory");
  }
  cudaFree(allocation_);
}

void DeviceMemory::Write(const void* host, size_t num_bytes) {
  Check(cudaMemcpy(data_, host, num_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
}

void DeviceMemory::Read(void* host, size_t num_bytes) const {
  Check(cudaDeviceSynchronize(), "a kernel");
  Check(cudaMemcpy(host, data_, num_bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

#endif

}  // namespace adamoe
