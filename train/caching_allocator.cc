// Blocks come in size classes, eight to each power of two, and each class has a list of free
// blocks. The 64 bytes before a block's data say which class it belongs to.
#include "train/caching_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/numeric/bits.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {
namespace {

constexpr size_t kHeaderSize = 64;  // also the alignment of blocks
constexpr int kStepBits = 3;        // classes per power of two, as a power of two
constexpr int kMinBits = 6;         // the first class holds 64 bytes

struct SizeClass {
  size_t index;
  size_t size;
};

SizeClass ClassOf(size_t size) {
  if (size < (size_t{1} << kMinBits)) size = size_t{1} << kMinBits;
  const int shift = absl::bit_width(size) - 1 - kStepBits;
  const size_t steps = (size + (size_t{1} << shift) - 1) >> shift;  // in [8, 16]
  return {(static_cast<size_t>(shift) << kStepBits) + steps, steps << shift};
}

class CachingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, nullptr, &Free, c10::Device(c10::kCPU)};
    const SizeClass size_class = ClassOf(size);
    char* block = Take(size_class.index);
    if (block == nullptr) {
      block = static_cast<char*>(std::aligned_alloc(
          kHeaderSize, (size_class.size + 2 * kHeaderSize - 1) / kHeaderSize * kHeaderSize));
      if (block == nullptr) throw std::bad_alloc();
      std::memcpy(block, &size_class.index, sizeof(size_class.index));
    }
    void* data = block + kHeaderSize;
    return {data, data, &Free, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Free; }

  void copy_data(void* to, const void* from, size_t count) const override {
    std::memcpy(to, from, count);
  }

  static CachingAllocator& Instance() {
    // Tensors may outlive every static object.
    static CachingAllocator& allocator = *new CachingAllocator;
    return allocator;
  }

 private:
  static void Free(void* data) {
    if (data == nullptr) return;
    char* block = static_cast<char*>(data) - kHeaderSize;
    size_t index;
    std::memcpy(&index, block, sizeof(index));
    CachingAllocator& allocator = Instance();
    absl::MutexLock lock(&allocator.mu_);
    allocator.free_[index].push_back(block);
  }

  char* Take(size_t index) {
    absl::MutexLock lock(&mu_);
    std::vector<char*>& blocks = free_[index];
    if (blocks.empty()) return nullptr;
    char* block = blocks.back();
    blocks.pop_back();
    return block;
  }

  absl::Mutex mu_;
  std::array<std::vector<char*>, (64 << kStepBits) + 17> free_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

void InstallCachingAllocator() {
  // What libraries take from malloc themselves is kept as well, in one heap that does not shrink.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_MXFAST, 0);  // small free blocks wait for a consolidation that costs more than it saves
  c10::SetCPUAllocator(&CachingAllocator::Instance(), /*priority=*/1);
}

}  // namespace adamoe
