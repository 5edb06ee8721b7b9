#include "server/base/huge_buffer.h"

#include <sys/mman.h>

#include <new>

namespace adamoe {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

HugeBuffer::HugeBuffer(size_t num_bytes) : mapping_size_(num_bytes + kHugePage) {
  mapping_ =
      mmap(nullptr, mapping_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = static_cast<uint8_t*>(mapping_) + (kHugePage - address % kHugePage) % kHugePage;
#if defined(MADV_HUGEPAGE)
  // Where the system has none of them, or forbids it, small ones serve.
  madvise(data_, num_bytes, MADV_HUGEPAGE);
#endif
}

HugeBuffer::~HugeBuffer() { munmap(mapping_, mapping_size_); }

}  // namespace adamoe
