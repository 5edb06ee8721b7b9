#include "tests/fakes/host_gpu.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace adamoe::cuda {
namespace {

constexpr size_t kAlignment = 256;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, Free>;

Memory Allocated(int64_t num_bytes) {
  const size_t size = (static_cast<size_t>(num_bytes) + kAlignment) / kAlignment * kAlignment;
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(kAlignment, size)));
  std::memset(memory.get(), 0xff, size);  // as float32 and bfloat16: NaN
  return memory;
}

class HostGraph : public Graph {
 public:
  HostGraph(std::function<absl::Status()> enqueue, HostGpuControl* control)
      : enqueue_(std::move(enqueue)), control_(control) {}
  absl::Status Launch() override {
    ++control_->num_launches;
    return enqueue_();
  }

 private:
  const std::function<absl::Status()> enqueue_;
  HostGpuControl* const control_;
};

class HostGpu : public Gpu {
 public:
  explicit HostGpu(HostGpuControl* control) : control_(control) {}
  ~HostGpu() override { control_->num_pinned -= static_cast<int>(pinned_.size()); }

  absl::Status MakeCurrent() override { return State(); }
  cudaStream_t stream() const override { return nullptr; }
  int32_t num_multiprocessors() const override { return control_->num_multiprocessors; }
  absl::StatusOr<int64_t> FreeBytes() override { return control_->free_bytes; }

  absl::StatusOr<std::byte*> Allocate(int64_t num_bytes) override {
    if (num_bytes > control_->free_bytes) return absl::ResourceExhaustedError("no memory");
    control_->allocated_bytes += num_bytes;
    device_.push_back(Allocated(num_bytes));
    return device_.back().get();
  }
  absl::StatusOr<std::byte*> AllocatePinned(int64_t num_bytes) override {
    Memory memory = Allocated(num_bytes);
    std::byte* const pointer = memory.get();
    pinned_[pointer] = std::move(memory);
    ++control_->num_pinned;
    return pointer;
  }
  void FreePinned(std::byte* memory) override {
    control_->num_pinned -= static_cast<int>(pinned_.erase(memory));
  }

  absl::Status CopyToDevice(void* to, const void* from, int64_t num_bytes) override {
    std::memcpy(to, from, static_cast<size_t>(num_bytes));
    return State();
  }
  absl::Status CopyToHost(void* to, const void* from, int64_t num_bytes) override {
    return CopyToDevice(to, from, num_bytes);
  }
  absl::Status Clear(void* memory, int64_t num_bytes) override {
    std::memset(memory, 0, static_cast<size_t>(num_bytes));
    return State();
  }

  absl::Status SetMark(int) override { return State(); }
  absl::Status AwaitMark(int) override { return State(); }
  absl::Status Synchronize() override {
    const bool fails = control_->num_synchronizes++ == control_->fail_synchronize;
    broken_ |= fails && control_->sticky;
    return fails ? absl::InternalError("cudaStreamSynchronize: planted") : State();
  }

  absl::StatusOr<std::unique_ptr<Graph>> Capture(std::function<absl::Status()> enqueue) override {
    if (control_->fail_capture) return absl::InternalError("cudaStreamEndCapture: planted");
    return std::make_unique<HostGraph>(std::move(enqueue), control_);
  }

  bool Alive() override { return !broken_; }

 private:
  absl::Status State() const {
    return broken_ ? absl::InternalError("the device is broken") : absl::OkStatus();
  }

  HostGpuControl* const control_;
  std::vector<Memory> device_;
  std::map<std::byte*, Memory> pinned_;
  bool broken_ = false;
};

}  // namespace

absl::Status CudaStatus(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(call, ": error ", static_cast<int>(error)));
}

std::unique_ptr<Gpu> MakeHostGpu(HostGpuControl* control) {
  return std::make_unique<HostGpu>(control);
}

}  // namespace adamoe::cuda
