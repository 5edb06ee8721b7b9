#include "server/cuda/gpu_staging.h"

#include "server/base/status_macros.h"

namespace adamoe::cuda {

namespace {

// Long enough copies for full speed, little beside a host's memory.
constexpr int64_t kStagingBytes = 64 << 20;

}  // namespace

static_assert(Gpu::kNumMarks >= 2, "one mark for each buffer");

absl::StatusOr<std::unique_ptr<GpuStaging>> GpuStaging::Create(Gpu* gpu, int64_t num_bytes,
                                                               std::byte* weights) {
  std::unique_ptr<GpuStaging> staging(new GpuStaging(gpu, num_bytes, weights));
  for (std::byte*& buffer : staging->buffers_) {
    ASSIGN_OR_RETURN(buffer, gpu->AllocatePinned(num_bytes));
  }
  return staging;
}

GpuStaging::~GpuStaging() {
  gpu_->Synchronize().IgnoreError();
  for (std::byte* buffer : buffers_) {
    if (buffer != nullptr) gpu_->FreePinned(buffer);
  }
}

absl::StatusOr<std::byte*> GpuStaging::Await(int i) {
  RETURN_IF_ERROR(gpu_->AwaitMark(i));
  return buffers_[i];
}

absl::Status GpuStaging::BeginCopy(int i, int64_t offset, int64_t num_bytes) {
  RETURN_IF_ERROR(gpu_->CopyToDevice(weights_ + offset, buffers_[i], num_bytes));
  return gpu_->SetMark(i);
}

absl::Status UploadToGpu(const MixtralWeights& weights, Gpu& gpu, std::byte* memory) {
  const WeightLayout layout = LayOutWeights(weights.config);
  ASSIGN_OR_RETURN(const auto staging, GpuStaging::Create(&gpu, kStagingBytes, memory));
  return UploadWeights(WeightCopies(weights, layout), *staging);
}

}  // namespace adamoe::cuda
