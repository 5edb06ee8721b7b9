// Lays pieces out one behind the other in memory that is taken in one go. Pure; thread-compatible.
//
//   Layout layout;
//   const int64_t norms = layout.Add(num_norms * sizeof(float));
//   const int64_t router = layout.Add(router_bytes);
//   char* const memory = Allocate(layout.num_bytes());   // norms at memory + norms, ...
#ifndef ADAMOE_SERVER_CUDA_LAYOUT_H_
#define ADAMOE_SERVER_CUDA_LAYOUT_H_

#include <cstdint>

namespace adamoe::cuda {

class Layout {
 public:
  // What device memory is aligned to, and every piece of a layout.
  static constexpr int64_t kAlignment = 256;

  // A piece of `num_bytes`; returns where it begins. REQUIRES: num_bytes >= 0.
  int64_t Add(int64_t num_bytes) {
    const int64_t begin = num_bytes_;
    num_bytes_ += (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
    return begin;
  }

  // Of all pieces, a multiple of kAlignment.
  int64_t num_bytes() const { return num_bytes_; }

 private:
  int64_t num_bytes_ = 0;
};

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_LAYOUT_H_
