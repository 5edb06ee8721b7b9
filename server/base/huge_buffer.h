// Memory in pages as large as the system gives, for what is read from end to end again and again:
// with pages of 4 KiB a processor looks up a page for every 64 cache lines.
#ifndef ADAMOE_SERVER_BASE_HUGE_BUFFER_H_
#define ADAMOE_SERVER_BASE_HUGE_BUFFER_H_

#include <cstddef>
#include <cstdint>

namespace adamoe {

// Owns its memory, which is zero and begins at a multiple of 2 MiB. Not copied, not moved.
class HugeBuffer {
 public:
  // Throws std::bad_alloc as `new` does.
  explicit HugeBuffer(size_t num_bytes);
  ~HugeBuffer();
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;

  uint8_t* data() const { return data_; }

 private:
  void* mapping_;
  size_t mapping_size_;
  uint8_t* data_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_BASE_HUGE_BUFFER_H_
