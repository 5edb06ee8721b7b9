// A tensor in host memory that someone else owns (a mapped file or a merged buffer).
#ifndef ADAMOE_SERVER_WEIGHTS_TENSOR_VIEW_H_
#define ADAMOE_SERVER_WEIGHTS_TENSOR_VIEW_H_

#include <cstdint>
#include <vector>

#include "server/base/dtype.h"

namespace adamoe {

struct TensorView {
  const void* data = nullptr;  // aligned to its element type
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const uint16_t* scales = nullptr;  // of packed types
  bool in_file = false;              // the data are a mapped file's: pages let go are read again

  int64_t num_elements() const {
    int64_t product = 1;
    for (int64_t dimension : shape) product *= dimension;
    return product;
  }
};

// Elements [begin, begin + count) of `view`, row major, as float32 to `out`. REQUIRES: not packed.
inline void CopyToFloat32(const TensorView& view, int64_t begin, int64_t count, float* out) {
  CopyToFloat32(view.data, view.dtype, begin, count, out);
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_TENSOR_VIEW_H_
