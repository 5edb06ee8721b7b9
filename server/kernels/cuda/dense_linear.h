// y = x W^T by cuBLASLt: bfloat16 in, float32 accumulation, and a float32 or bfloat16 result.
//
// Thread-compatible. Owns the cuBLASLt handle and the algorithms found so far (one search on the
// host for each new shape: run every shape once before capturing it); borrows the workspace. Run
// may be captured into a CUDA graph; calls that share a DenseLinear share its workspace, so they
// belong on one stream.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_DENSE_LINEAR_H_
#define ADAMOE_SERVER_KERNELS_CUDA_DENSE_LINEAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/kernels/cuda/cuda_types.h"

namespace adamoe::cuda {

class DenseLinear {
 public:
  enum class Output : uint8_t {
    kBf16,
    kFloat32,
    kFloat32Add,  // y += x W^T: the residual stream takes attention's output this way
  };

  struct Product {
    const Bf16* x = nullptr;  // [num_rows, inputs], 16-byte aligned
    const Bf16* w = nullptr;  // [outputs, inputs], 16-byte aligned
    void* y = nullptr;        // [num_rows, outputs], 16-byte aligned
    int32_t num_rows = 0;     // 0: nothing is done
    int32_t inputs = 0;       // a multiple of 8
    int32_t outputs = 0;
    Output output = Output::kFloat32;
  };

  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // as cuBLASLt asks of Hopper

  // `workspace`: device memory of kWorkspaceBytes, 256-byte aligned, must outlive this. INTERNAL
  // when cuBLASLt refuses.
  static absl::StatusOr<std::unique_ptr<DenseLinear>> Create(void* workspace);
  virtual ~DenseLinear() = default;

  // Enqueues the product. INTERNAL, naming the shape, when cuBLASLt has no algorithm or fails.
  virtual absl::Status Run(const Product& product, cudaStream_t stream) = 0;
};

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_DENSE_LINEAR_H_
