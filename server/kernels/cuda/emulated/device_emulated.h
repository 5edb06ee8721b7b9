// device.h for the host: the words of the CUDA language, and its instructions as their manual
// describes them, element by element.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_EMULATED_DEVICE_EMULATED_H_
#define ADAMOE_SERVER_KERNELS_CUDA_EMULATED_DEVICE_EMULATED_H_

#include <cmath>
#include <cstring>

#include "server/base/dtype.h"
#include "server/kernels/cuda/emulated/emulator.h"
#include "server/kernels/cuda/emulated/runtime.h"

#define __host__
#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
#define threadIdx (::adamoe::cuda::emulated::ThreadIndex())
#define blockIdx (::adamoe::cuda::emulated::BlockIndex())
#define blockDim (::adamoe::cuda::emulated::BlockSize())
#define gridDim (::adamoe::cuda::emulated::GridSize())
#define ADAMOE_DYNAMIC_SHARED(name) \
  unsigned char* const name = ::adamoe::cuda::emulated::DynamicShared()

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

inline void __syncthreads() { adamoe::cuda::emulated::BlockBarrier(); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  const unsigned old = *address;
  *address += value;
  return old;
}

namespace adamoe::cuda {

struct LaunchShape {
  dim3 grid;
  unsigned threads = 0;
  size_t shared_bytes = 0;
};

template <class... Params, class... Args>
cudaError_t Launch(void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t,
                   const Args&... args) {
  emulated::RunGrid(shape.grid, shape.threads, shape.shared_bytes,
                    [&] { kernel(static_cast<Params>(args)...); });
  return cudaSuccess;
}

inline int32_t NumMultiprocessors() { return emulated::kNumMultiprocessors; }

inline float BitsToFloat(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
inline Bf16 ToBf16(float x) { return Bf16FromFloat(x); }
inline uint32_t ToBf16Pair(float low, float high) {
  return static_cast<uint32_t>(ToBf16(low)) | (static_cast<uint32_t>(ToBf16(high)) << 16);
}
inline float ToFloat(Bf16 x) { return FloatFromBf16(x); }
inline float FastExp2(float x) { return std::exp2(x); }

inline int32_t EmulatedLane() { return static_cast<int32_t>(threadIdx.x % 32); }

template <class T>
T ShuffleXor(T x, int offset) {
  T result;
  const uint8_t* lanes = emulated::WarpExchange(&x, sizeof(x), "shuffle");
  std::memcpy(&result, lanes + 64 * (EmulatedLane() ^ offset), sizeof(result));
  return result;
}
inline uint32_t Ballot(bool vote) {
  const uint8_t value = vote ? 1 : 0;
  const uint8_t* lanes = emulated::WarpExchange(&value, 1, "ballot");
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= uint32_t{lanes[64 * lane]} << lane;
  return votes;
}

inline uint4 LoadStreaming(const void* address) { return *static_cast<const uint4*>(address); }

// Offset in the block's dynamic shared memory.
inline uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(shared) -
                               emulated::DynamicShared());
}

inline void CopyAsync16(void* shared, const void* global, bool wanted) {
  emulated::Enqueue(emulated::Queue::kCopies, [=] {
    if (wanted) {
      std::memcpy(shared, global, 16);
    } else {
      std::memset(shared, 0, 16);
    }
  });
}
inline void CopyAsyncCommit() { emulated::CommitGroup(emulated::Queue::kCopies); }
template <int kPending>
void CopyAsyncWait() {
  emulated::WaitForGroups(emulated::Queue::kCopies, kPending);
}

inline void EmulatedLoadMatrices(const void* row, uint32_t (&r)[4], bool transposed) {
  uint8_t rows[32][16];
  const uint8_t* lanes =
      emulated::WarpExchange(row, 16, transposed ? "ldmatrix.trans" : "ldmatrix");
  for (int lane = 0; lane < 32; ++lane) std::memcpy(rows[lane], lanes + 64 * lane, 16);
  const int lane = EmulatedLane();
  for (int i = 0; i < 4; ++i) {
    const auto element = [&](int row_in_matrix, int col) {
      Bf16 bits;
      std::memcpy(&bits, &rows[8 * i + row_in_matrix][2 * col], 2);
      return bits;
    };
    const int major = lane / 4;
    const int minor = 2 * (lane % 4);
    const Bf16 low = transposed ? element(minor, major) : element(major, minor);
    const Bf16 high = transposed ? element(minor + 1, major) : element(major, minor + 1);
    r[i] = static_cast<uint32_t>(low) | (static_cast<uint32_t>(high) << 16);
  }
}
inline void LoadMatrices(const void* row, uint32_t (&r)[4]) { EmulatedLoadMatrices(row, r, false); }
inline void LoadMatricesTransposed(const void* row, uint32_t (&r)[4]) {
  EmulatedLoadMatrices(row, r, true);
}

inline float EmulatedHalf(uint32_t pair, int half) {
  return ToFloat(static_cast<Bf16>(half == 0 ? pair : pair >> 16));
}

inline void Mma16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  uint32_t all[32][6];
  const uint8_t* lanes = emulated::WarpExchange(mine, sizeof(mine), "mma");
  for (int lane = 0; lane < 32; ++lane) std::memcpy(all[lane], lanes + 64 * lane, sizeof(mine));
  // Which lane and register hold A[row][k] and B[k][col].
  const auto a_at = [&](int row, int k) {
    return EmulatedHalf(all[4 * (row % 8) + k % 8 / 2][row / 8 + 2 * (k / 8)], k % 2);
  };
  const auto b_at = [&](int k, int col) {
    return EmulatedHalf(all[4 * col + k % 8 / 2][4 + k / 8], k % 2);
  };
  const int lane = EmulatedLane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + 8 * (i / 2);
    const int col = 2 * (lane % 4) + i % 2;
    for (int k = 0; k < 16; ++k) c[i] += a_at(row, k) * b_at(k, col);
  }
}

inline void FenceSharedForProducts() {}
inline void WarpgroupArrive() {}
inline void WarpgroupCommit() { emulated::CommitGroup(emulated::Queue::kProducts); }
template <int kPending>
void WarpgroupWait() {
  emulated::WaitForGroups(emulated::Queue::kProducts, kPending);
}

inline void FenceAccumulators(float (&)[64]) {}

// Element [row][k] of a tile as the descriptor says where it lies: K-major, 128-byte swizzle.
inline float EmulatedTileElement(uint64_t descriptor, int row, int k) {
  if (descriptor >> 62 != 1) std::abort();  // another layout
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const uint32_t group_bytes = static_cast<uint32_t>((descriptor >> 32) & 0x3fff) << 4;
  uint32_t address = start + static_cast<uint32_t>(row / 8) * group_bytes +
                     static_cast<uint32_t>(row % 8 * 128 + 2 * k);
  address ^= ((address >> 7) & 7) << 4;
  if (address + 2 > emulated::DynamicSharedBytes()) std::abort();
  Bf16 bits;
  std::memcpy(&bits, emulated::DynamicShared() + address, 2);
  return ToFloat(bits);
}

inline void Wgmma64x128x16(float (&d)[64], uint64_t a, uint64_t b) {
  const int thread = static_cast<int>(threadIdx.x % 128);
  float* out = d;
  emulated::Enqueue(emulated::Queue::kProducts, [=] {
    for (int i = 0; i < 64; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * (i % 4 / 2);
      const int col = 8 * (i / 4) + 2 * (thread % 4) + i % 2;
      float sum = out[i];
      for (int k = 0; k < 16; ++k) {
        sum += EmulatedTileElement(a, row, k) * EmulatedTileElement(b, col, k);
      }
      out[i] = sum;
    }
  });
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_EMULATED_DEVICE_EMULATED_H_
