// Root mean square layer normalization (arXiv 1910.07467), differentiable, on the CPU in one pass
// over memory each way. Thread-safe.
#ifndef ADAMOE_TRAIN_RMS_NORM_H_
#define ADAMOE_TRAIN_RMS_NORM_H_

#include <ATen/ATen.h>

namespace adamoe {

// x / sqrt(mean(x^2) + epsilon) * weight, over the last dimension. x: [..., hidden], f32 or f64;
// weight: [hidden], of the same type. Returns x's shape and type.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_RMS_NORM_H_
