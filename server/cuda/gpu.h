// What the model asks of a GPU beside kernels: memory, copies, order, graphs. One stream carries
// everything, so what is enqueued runs in order; "enqueue" returns before it has run, and errors of
// what runs surface at a later call. Thread-compatible, but every thread that uses it calls
// MakeCurrent first.
#ifndef ADAMOE_SERVER_CUDA_GPU_H_
#define ADAMOE_SERVER_CUDA_GPU_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/kernels/cuda/cuda_types.h"

namespace adamoe::cuda {

// Ok, or INTERNAL naming the call and the error.
absl::Status CudaStatus(const char* call, cudaError_t error);

// A recorded sequence of copies and kernels with fixed arguments.
class Graph {
 public:
  virtual ~Graph() = default;
  // Enqueues it. REQUIRES: the Gpu still exists.
  virtual absl::Status Launch() = 0;
};

class Gpu {
 public:
  static constexpr int kNumMarks = 2;

  virtual ~Gpu() = default;

  virtual absl::Status MakeCurrent() = 0;
  virtual cudaStream_t stream() const = 0;
  virtual int32_t num_multiprocessors() const = 0;
  virtual absl::StatusOr<int64_t> FreeBytes() = 0;

  // Memory of the device, or of the host that the device can copy by itself; aligned to 256 bytes,
  // freed with the device. RESOURCE_EXHAUSTED when it cannot be had.
  virtual absl::StatusOr<std::byte*> Allocate(int64_t num_bytes) = 0;
  virtual absl::StatusOr<std::byte*> AllocatePinned(int64_t num_bytes) = 0;
  // Gives pinned memory back early. REQUIRES: nothing under way uses it.
  virtual void FreePinned(std::byte* memory) = 0;

  // Enqueued. Host memory is pinned, and stays as it is until the copy has run.
  virtual absl::Status CopyToDevice(void* to, const void* from, int64_t num_bytes) = 0;
  virtual absl::Status CopyToHost(void* to, const void* from, int64_t num_bytes) = 0;
  virtual absl::Status Clear(void* memory, int64_t num_bytes) = 0;  // to zeros

  // Mark `i` in [0, kNumMarks) in the stream, and wait until it has been passed (or never was set).
  virtual absl::Status SetMark(int i) = 0;
  virtual absl::Status AwaitMark(int i) = 0;
  // Waits for all that was enqueued.
  virtual absl::Status Synchronize() = 0;

  // Records what `enqueue` enqueues, without running it. `enqueue` may be called again at any
  // launch, so it holds what it needs by value.
  virtual absl::StatusOr<std::unique_ptr<Graph>> Capture(std::function<absl::Status()> enqueue) = 0;

  // Whether the device can go on after an error.
  virtual bool Alive() = 0;
};

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_GPU_H_
