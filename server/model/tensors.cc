#include "server/model/tensors.h"

#include <cstddef>
#include <cstdint>

#include "server/base/dtype.h"

namespace adamoe {
namespace {

float Element(const TensorView& tensor, size_t i) {
  if (tensor.dtype == DType::kFloat32) return static_cast<const float*>(tensor.data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(tensor.data)[i];
  return tensor.dtype == DType::kBFloat16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

}  // namespace

Matrix AsMatrix(const TensorView& tensor) {
  return {tensor.data, tensor.dtype, tensor.shape[0], tensor.shape[1], tensor.scales};
}

std::vector<float> ToFloat32(const TensorView& tensor) {
  size_t size = 1;
  for (int64_t extent : tensor.shape) size *= static_cast<size_t>(extent);
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = Element(tensor, i);
  return values;
}

}  // namespace adamoe
