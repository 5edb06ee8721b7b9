// Marks functions that host and device share, for compilers that know the difference.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_HOST_DEVICE_H_
#define ADAMOE_SERVER_KERNELS_CUDA_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define ADAMOE_HD __host__ __device__
#else
#define ADAMOE_HD
#endif

#endif  // ADAMOE_SERVER_KERNELS_CUDA_HOST_DEVICE_H_
