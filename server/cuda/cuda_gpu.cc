#include "server/cuda/cuda_gpu.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe::cuda {
namespace {

#define RETURN_IF_CUDA_ERROR(function, ...) \
  RETURN_IF_ERROR(CudaStatus(#function, function(__VA_ARGS__)))

absl::StatusOr<int> Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute, &value, attribute, device);
  return value;
}

class CudaGraph : public Graph {
 public:
  CudaGraph(cudaGraphExec_t exec, cudaStream_t stream) : exec_(exec), stream_(stream) {}
  ~CudaGraph() override { cudaGraphExecDestroy(exec_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  absl::Status Launch() override {
    return CudaStatus("cudaGraphLaunch", cudaGraphLaunch(exec_, stream_));
  }

 private:
  const cudaGraphExec_t exec_;
  const cudaStream_t stream_;
};

class CudaGpu : public Gpu {
 public:
  explicit CudaGpu(int32_t ordinal) : ordinal_(ordinal) {}

  // In any state of Open. What the driver says while all goes away helps nobody.
  ~CudaGpu() override {
    cudaSetDevice(ordinal_);
    if (stream_ != nullptr) cudaStreamSynchronize(stream_);
    for (cudaEvent_t mark : marks_) {
      if (mark != nullptr) cudaEventDestroy(mark);
    }
    for (std::byte* memory : pinned_) cudaFreeHost(memory);
    for (std::byte* memory : device_) cudaFree(memory);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  CudaGpu(const CudaGpu&) = delete;
  CudaGpu& operator=(const CudaGpu&) = delete;

  absl::Status Open() {
    RETURN_IF_ERROR(MakeCurrent());
    ASSIGN_OR_RETURN(const int major, Attribute(cudaDevAttrComputeCapabilityMajor, ordinal_));
    ASSIGN_OR_RETURN(const int minor, Attribute(cudaDevAttrComputeCapabilityMinor, ordinal_));
    if (major != 9 || minor != 0) {
      return absl::FailedPreconditionError(absl::StrCat("GPU ", ordinal_,
                                                        " has compute capability ", major, ".",
                                                        minor, ", the kernels need 9.0"));
    }
    ASSIGN_OR_RETURN(num_multiprocessors_, Attribute(cudaDevAttrMultiProcessorCount, ordinal_));
    RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags, &stream_, cudaStreamNonBlocking);
    for (cudaEvent_t& mark : marks_) {
      RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags, &mark, cudaEventDisableTiming);
    }
    return absl::OkStatus();
  }

  absl::Status MakeCurrent() override {
    return CudaStatus("cudaSetDevice", cudaSetDevice(ordinal_));
  }

  cudaStream_t stream() const override { return stream_; }
  int32_t num_multiprocessors() const override { return num_multiprocessors_; }

  absl::StatusOr<int64_t> FreeBytes() override {
    size_t free = 0;
    size_t total = 0;
    RETURN_IF_CUDA_ERROR(cudaMemGetInfo, &free, &total);
    return static_cast<int64_t>(free);
  }

  absl::StatusOr<std::byte*> Allocate(int64_t num_bytes) override {
    void* memory = nullptr;
    RETURN_IF_ERROR(
        Allocated("cudaMalloc", cudaMalloc(&memory, static_cast<size_t>(num_bytes)), num_bytes));
    device_.push_back(static_cast<std::byte*>(memory));
    return device_.back();
  }

  absl::StatusOr<std::byte*> AllocatePinned(int64_t num_bytes) override {
    void* memory = nullptr;
    RETURN_IF_ERROR(Allocated(
        "cudaHostAlloc",
        cudaHostAlloc(&memory, static_cast<size_t>(num_bytes), cudaHostAllocDefault), num_bytes));
    pinned_.push_back(static_cast<std::byte*>(memory));
    return pinned_.back();
  }

  void FreePinned(std::byte* memory) override {
    pinned_.erase(std::remove(pinned_.begin(), pinned_.end(), memory), pinned_.end());
    cudaFreeHost(memory);
  }

  absl::Status CopyToDevice(void* to, const void* from, int64_t num_bytes) override {
    return Copy(to, from, num_bytes, cudaMemcpyHostToDevice);
  }
  absl::Status CopyToHost(void* to, const void* from, int64_t num_bytes) override {
    return Copy(to, from, num_bytes, cudaMemcpyDeviceToHost);
  }

  absl::Status Clear(void* memory, int64_t num_bytes) override {
    return CudaStatus("cudaMemsetAsync",
                      cudaMemsetAsync(memory, 0, static_cast<size_t>(num_bytes), stream_));
  }

  absl::Status SetMark(int i) override {
    return CudaStatus("cudaEventRecord", cudaEventRecord(marks_[i], stream_));
  }
  absl::Status AwaitMark(int i) override {
    return CudaStatus("cudaEventSynchronize", cudaEventSynchronize(marks_[i]));
  }
  absl::Status Synchronize() override {
    return CudaStatus("cudaStreamSynchronize", cudaStreamSynchronize(stream_));
  }

  absl::StatusOr<std::unique_ptr<Graph>> Capture(std::function<absl::Status()> enqueue) override {
    RETURN_IF_CUDA_ERROR(cudaStreamBeginCapture, stream_, cudaStreamCaptureModeThreadLocal);
    absl::Status status = enqueue();
    cudaGraph_t graph = nullptr;
    // Also after an error: the stream is not usable until its capture has ended.
    status.Update(CudaStatus("cudaStreamEndCapture", cudaStreamEndCapture(stream_, &graph)));
    cudaGraphExec_t exec = nullptr;
    if (status.ok()) {
      status = CudaStatus("cudaGraphInstantiate", cudaGraphInstantiate(&exec, graph, 0));
    }
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (!status.ok()) return status;
    return std::make_unique<CudaGraph>(exec, stream_);
  }

  // Errors that last are reported by every call that follows them.
  bool Alive() override {
    cudaGetLastError();
    return cudaStreamSynchronize(stream_) == cudaSuccess;
  }

 private:
  static absl::Status Allocated(const char* call, cudaError_t error, int64_t num_bytes) {
    if (error != cudaErrorMemoryAllocation) return CudaStatus(call, error);
    cudaGetLastError();  // is not to be reported again by a later call
    return absl::ResourceExhaustedError(
        absl::StrCat(call, ": no memory for ", num_bytes, " bytes in one piece"));
  }

  absl::Status Copy(void* to, const void* from, int64_t num_bytes, cudaMemcpyKind kind) {
    return CudaStatus("cudaMemcpyAsync",
                      cudaMemcpyAsync(to, from, static_cast<size_t>(num_bytes), kind, stream_));
  }

  const int32_t ordinal_;
  int32_t num_multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t marks_[kNumMarks] = {};
  std::vector<std::byte*> device_;
  std::vector<std::byte*> pinned_;
};

}  // namespace

absl::Status CudaStatus(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(call, ": ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")"));
}

absl::StatusOr<std::unique_ptr<Gpu>> OpenCudaGpu(int32_t ordinal) {
  auto gpu = std::make_unique<CudaGpu>(ordinal);
  RETURN_IF_ERROR(gpu->Open());
  return gpu;
}

}  // namespace adamoe::cuda
