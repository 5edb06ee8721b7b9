// The staging buffers of an upload (weight_upload.h) in a GPU's pinned memory, given back at the
// end. Thread-compatible.
#ifndef ADAMOE_SERVER_CUDA_GPU_STAGING_H_
#define ADAMOE_SERVER_CUDA_GPU_STAGING_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "server/cuda/gpu.h"
#include "server/cuda/weight_upload.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe::cuda {

class GpuStaging : public StagingBuffers {
 public:
  // Two buffers of `num_bytes`, for copies to `weights` on the device. `gpu` must outlive this.
  static absl::StatusOr<std::unique_ptr<GpuStaging>> Create(Gpu* gpu, int64_t num_bytes,
                                                            std::byte* weights);
  ~GpuStaging() override;

  int64_t num_bytes() const override { return num_bytes_; }
  absl::StatusOr<std::byte*> Await(int i) override;
  absl::Status BeginCopy(int i, int64_t offset, int64_t num_bytes) override;
  absl::Status Finish() override { return gpu_->Synchronize(); }

 private:
  GpuStaging(Gpu* gpu, int64_t num_bytes, std::byte* weights)
      : gpu_(gpu), num_bytes_(num_bytes), weights_(weights) {}

  Gpu* const gpu_;
  const int64_t num_bytes_;
  std::byte* const weights_;
  std::byte* buffers_[2] = {};
};

// Every weight to `memory` on the device, as LayOutWeights says.
absl::Status UploadToGpu(const MixtralWeights& weights, Gpu& gpu, std::byte* memory);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_GPU_STAGING_H_
