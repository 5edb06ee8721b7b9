// A tensor in host memory that someone else owns (a mapped file or a merged buffer).
#ifndef ADAMOE_SERVER_WEIGHTS_TENSOR_VIEW_H_
#define ADAMOE_SERVER_WEIGHTS_TENSOR_VIEW_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "server/base/dtype.h"

namespace adamoe {

struct TensorView {
  const void* data = nullptr;  // aligned to its element type
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const uint16_t* scales = nullptr;  // of packed types

  int64_t num_elements() const {
    int64_t product = 1;
    for (int64_t dimension : shape) product *= dimension;
    return product;
  }
};

// Elements [begin, begin + count) of `view`, row major, as float32 to `out`. REQUIRES: not packed.
inline void CopyToFloat32(const TensorView& view, int64_t begin, int64_t count, float* out) {
  if (view.dtype == DType::kFloat32) {
    if (count > 0) std::memcpy(out, static_cast<const float*>(view.data) + begin, 4 * count);
    return;
  }
  const uint16_t* bits = static_cast<const uint16_t*>(view.data) + begin;
  if (view.dtype == DType::kBFloat16) {
    for (int64_t i = 0; i < count; ++i) out[i] = FloatFromBf16(bits[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = FloatFromF16(bits[i]);
  }
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_TENSOR_VIEW_H_
