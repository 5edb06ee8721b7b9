#include "server/kernels/cuda/random_fill.h"

#include "server/kernels/cuda/device.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kThreads = 256;

// The finaliser of splitmix64: a bijection that spreads every bit of its argument.
__device__ uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

__global__ void __launch_bounds__(kThreads)
    FillRandomKernel(Bf16* out, int64_t num_elements, float scale, uint64_t seed) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < num_elements;
       i += step) {
    const auto bits = static_cast<uint32_t>(Mix(Mix(seed) + static_cast<uint64_t>(i)) >> 40);
    // 24 bits, centred: in [-1, 1).
    const float unit = static_cast<float>(static_cast<int32_t>(bits) - (1 << 23)) * 0x1p-23f;
    out[i] = ToBf16(scale * unit);
  }
}

}  // namespace

cudaError_t FillRandomBf16(Bf16* out, int64_t num_elements, float scale, uint64_t seed,
                           cudaStream_t stream) {
  if (num_elements == 0) return cudaSuccess;
  const int64_t blocks = Min(CeilDiv<int64_t>(num_elements, kThreads), 32 * NumMultiprocessors());
  return Launch(FillRandomKernel, {dim3(static_cast<unsigned>(blocks)), kThreads, 0}, stream, out,
                num_elements, scale, seed);
}

}  // namespace adamoe::cuda
