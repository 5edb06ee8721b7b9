// A checkpoint's tensors as the operations take them. Pure and thread-safe.
#ifndef ADAMOE_SERVER_MODEL_TENSORS_H_
#define ADAMOE_SERVER_MODEL_TENSORS_H_

#include <vector>

#include "server/kernels/ops.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {

// The same memory. REQUIRES: two dimensions.
Matrix AsMatrix(const TensorView& tensor);

// A copy of all elements, row major; exact, as every supported type fits float32.
std::vector<float> ToFloat32(const TensorView& tensor);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_TENSORS_H_
