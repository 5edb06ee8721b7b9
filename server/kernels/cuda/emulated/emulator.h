// Runs CUDA kernels on the host, one thread of the device after the other, so that what a kernel
// computes can be tested where no GPU is.
//
// Every thread of a block is a fiber. A fiber runs until it meets a barrier or an instruction of
// its whole warp, and goes on when all that take part have come. Blocks run one after the other.
// What the device may do early or late (copies to shared memory, warpgroup products) is done at the
// first or at the last moment that the programming model allows, and the fibers take turns in
// ascending, descending or shuffled order, as Schedule says: a kernel that misses a barrier or a
// wait gives different results under different schedules. Dynamic shared memory starts as NaN;
// __shared__ variables keep what the block before left there.
//
// It does not know speed, bank conflicts, launch limits beyond shared memory and threads, or what
// ptxas makes of the code. Not thread-safe: one launch at a time in a process.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_EMULATED_EMULATOR_H_
#define ADAMOE_SERVER_KERNELS_CUDA_EMULATED_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "server/kernels/cuda/emulated/runtime.h"

namespace adamoe::cuda::emulated {

enum class Order : uint8_t { kAscending, kDescending, kShuffled };

struct Schedule {
  Order order = Order::kAscending;
  bool late = false;  // asynchronous work: at the last moment
};

// The schedule of all launches from now on.
void SetSchedule(const Schedule& schedule);

// What a device would answer. Small, so that persistent kernels loop.
constexpr int kNumMultiprocessors = 3;

// Runs `body` as each thread of each block. Ends the process with a message when a thread waits for
// one that never comes, or when lanes of a warp meet in different instructions.
void RunGrid(dim3 grid, unsigned threads_per_block, size_t shared_bytes,
             const std::function<void()>& body);

// Of the running thread.
const dim3& ThreadIndex();
const dim3& BlockIndex();
const dim3& BlockSize();
const dim3& GridSize();
unsigned char* DynamicShared();  // aligned to 1024 bytes
size_t DynamicSharedBytes();

void BlockBarrier();

// Hands `num_bytes` (up to 64) of this lane to the warp and returns those of all 32 lanes, [32,
// 64], valid until the lane's next call. `what` names the instruction.
const uint8_t* WarpExchange(const void* data, size_t num_bytes, const char* what);

// Asynchronous work of a thread, in groups, as cp.async and wgmma know it.
enum class Queue : uint8_t { kCopies, kProducts };
void Enqueue(Queue queue, std::function<void()> work);
void CommitGroup(Queue queue);
void WaitForGroups(Queue queue, int pending);  // until at most `pending` groups are left

}  // namespace adamoe::cuda::emulated

#endif  // ADAMOE_SERVER_KERNELS_CUDA_EMULATED_EMULATOR_H_
