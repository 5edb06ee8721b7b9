// The few names of the CUDA runtime that the kernels' headers need, for builds that run the kernels
// on the host (emulated/emulator.h).
#ifndef ADAMOE_SERVER_KERNELS_CUDA_EMULATED_RUNTIME_H_
#define ADAMOE_SERVER_KERNELS_CUDA_EMULATED_RUNTIME_H_

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
using cudaStream_t = struct CUstream_st*;

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#endif  // ADAMOE_SERVER_KERNELS_CUDA_EMULATED_RUNTIME_H_
