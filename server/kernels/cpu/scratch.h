// Memory that kernels write before they read, kept from call to call. Thread-safe: every thread has
// its own.
#ifndef ADAMOE_SERVER_KERNELS_CPU_SCRATCH_H_
#define ADAMOE_SERVER_KERNELS_CPU_SCRATCH_H_

#include <cstdint>

namespace adamoe {

// What it is for; each use has memory of its own.
enum class Scratch : uint8_t {
  kAsIs,
  kRounded,
  kBFloat16,
  kTiles,
  kIntegers,
  kHidden,
  kSlice,
  kGate,
  kUp,
  kAttend,
};
constexpr int kNumScratchUses = 10;

// At least `num_bytes`, aligned to a cache line, content undefined. Valid until the same thread
// asks for the same use again. It grows to the largest request so far and is freed when the thread
// ends.
void* ThreadScratch(Scratch use, int64_t num_bytes);

// `n` floats of it.
inline float* ThreadFloats(Scratch use, int64_t n) {
  return static_cast<float*>(ThreadScratch(use, n * static_cast<int64_t>(sizeof(float))));
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_SCRATCH_H_
