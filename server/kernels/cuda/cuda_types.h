// What the headers of the CUDA kernels share.
//
// Every launcher of this folder enqueues kernels on `stream` and returns what the launch returned:
// cudaSuccess, or the error of an argument the device cannot launch with. It allocates nothing,
// waits for nothing and may be captured into a CUDA graph; a replayed graph reads the same pointers
// and uses the same sizes. What a kernel itself does wrong surfaces at a later call on the stream,
// as always. A launcher given no tokens (or rows, or work) enqueues nothing and returns
// cudaSuccess.
//
// Pointers are device memory, owned by the caller, aligned to 16 bytes unless a comment says
// otherwise, and do not overlap unless an operation says so. Tensors are row major and contiguous.
// Thread-safe as long as two threads do not share buffers or a stream.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_CUDA_TYPES_H_
#define ADAMOE_SERVER_KERNELS_CUDA_CUDA_TYPES_H_

#include <cstdint>

#if defined(ADAMOE_CUDA_EMULATED)
#include "server/kernels/cuda/emulated/runtime.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace adamoe::cuda {

using Bf16 = uint16_t;  // the bits of a bfloat16

// The shapes the kernels take. Everything else is refused when a model is loaded.
struct ModelShape {
  int32_t hidden = 0;
  int32_t intermediate = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t num_experts = 0;        // n
  int32_t num_null_experts = 0;   // m
  int32_t experts_per_token = 0;  // k
};

constexpr int32_t kMaxTrueExperts = 64;  // n
constexpr int32_t kMaxNullExperts = 64;  // m
constexpr int32_t kMaxHeadDim = 256;
constexpr int32_t kMaxHidden = 16384;

// Null when the kernels take `shape`, else what they would need, for an error message: "hidden_size
// must be a multiple of 8". Host only, pure.
const char* UnsupportedBecause(const ModelShape& shape);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_CUDA_TYPES_H_
