// What kernels are written with: the CUDA language, or its emulation on the host, and one function
// per instruction that CUDA C++ has no name for. For the .cu files of this folder only.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_DEVICE_H_
#define ADAMOE_SERVER_KERNELS_CUDA_DEVICE_H_

#include <cstddef>
#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"

#if defined(ADAMOE_CUDA_EMULATED)
#include "server/kernels/cuda/emulated/device_emulated.h"
#else
#include "server/kernels/cuda/device_sm90.h"
#endif

namespace adamoe::cuda {

constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int32_t kWarpSize = 32;

template <class T>
__host__ __device__ constexpr T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

__host__ __device__ constexpr int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

// The lower and the upper bfloat16 of a pair, widened.
__device__ inline float LowToFloat(uint32_t pair) { return BitsToFloat(pair << 16); }
__device__ inline float HighToFloat(uint32_t pair) { return BitsToFloat(pair & 0xffff0000u); }

__device__ inline void Widen8(const uint4& eight, float (&out)[8]) {
  out[0] = LowToFloat(eight.x);
  out[1] = HighToFloat(eight.x);
  out[2] = LowToFloat(eight.y);
  out[3] = HighToFloat(eight.y);
  out[4] = LowToFloat(eight.z);
  out[5] = HighToFloat(eight.z);
  out[6] = LowToFloat(eight.w);
  out[7] = HighToFloat(eight.w);
}

__device__ inline float Silu(float x) { return x / (1.0f + expf(-x)); }

// Sum and largest value over the lanes of a warp, the same in every lane.
__device__ inline float WarpSum(float x) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) x += ShuffleXor(x, offset);
  return x;
}
__device__ inline float WarpMax(float x) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const float other = ShuffleXor(x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// The sum over a block, the same in every thread. partial: [warps of the block], shared.
__device__ inline float BlockSum(float x, float* partial) {
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t num_warps = static_cast<int32_t>(blockDim.x) / kWarpSize;
  x = WarpSum(x);
  if (threadIdx.x % kWarpSize == 0) partial[warp] = x;
  __syncthreads();
  float sum = 0.0f;
  for (int32_t w = 0; w < num_warps; ++w) sum += partial[w];
  __syncthreads();
  return sum;
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_DEVICE_H_
