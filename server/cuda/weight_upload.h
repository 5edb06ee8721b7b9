// Brings weights from mapped files to the device through two staging buffers: while the device
// copies one, the host converts into the other. Pages of the files are let go behind it, so that a
// model larger than the host's memory can be loaded. Thread-compatible.
#ifndef ADAMOE_SERVER_CUDA_WEIGHT_UPLOAD_H_
#define ADAMOE_SERVER_CUDA_WEIGHT_UPLOAD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/cuda/weight_layout.h"

namespace adamoe::cuda {

// Elements [begin, begin + count) of a copy.
struct UploadPiece {
  size_t copy;  // index
  int64_t begin;
  int64_t count;
};

// Cuts copies into pieces of at most `staging_bytes` each on the device, in order. Pure. REQUIRES:
// staging_bytes >= 4.
std::vector<UploadPiece> PlanUpload(absl::Span<const WeightCopy> copies, int64_t staging_bytes);

// Two buffers in memory that the device can copy from by itself.
class StagingBuffers {
 public:
  virtual ~StagingBuffers() = default;
  virtual int64_t num_bytes() const = 0;  // of each
  // Buffer `i` (0 or 1), once the last copy out of it has ended.
  virtual absl::StatusOr<std::byte*> Await(int i) = 0;
  // Begins to copy the first `num_bytes` of buffer `i` to `offset` from the start of the weights.
  virtual absl::Status BeginCopy(int i, int64_t offset, int64_t num_bytes) = 0;
  // Waits for both.
  virtual absl::Status Finish() = 0;
};

// Everything of `copies`, converted. On an error no copy is left under way.
absl::Status UploadWeights(absl::Span<const WeightCopy> copies, StagingBuffers& staging);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_WEIGHT_UPLOAD_H_
