#include "server/kernels/cpu/scratch.h"

#include <array>
#include <memory>
#include <new>

namespace adamoe {
namespace {

constexpr std::align_val_t kCacheLine{64};

struct Release {
  void operator()(void* memory) const { ::operator delete(memory, kCacheLine); }
};

struct Buffer {
  std::unique_ptr<void, Release> memory;
  int64_t size = 0;
};

}  // namespace

void* ThreadScratch(Scratch use, int64_t num_bytes) {
  thread_local std::array<Buffer, kNumScratchUses> buffers;
  Buffer& buffer = buffers[static_cast<size_t>(use)];
  if (buffer.size < num_bytes) {
    buffer.memory.reset();
    buffer.size = 0;
    buffer.memory.reset(::operator new(static_cast<size_t>(num_bytes), kCacheLine));
    buffer.size = num_bytes;
  }
  return buffer.memory.get();
}

}  // namespace adamoe
