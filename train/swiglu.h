// silu(h1) * h3 and its gradient, on the CPU in one pass over memory each. Thread-safe.
#ifndef ADAMOE_TRAIN_SWIGLU_H_
#define ADAMOE_TRAIN_SWIGLU_H_

#include <ATen/ATen.h>

namespace adamoe {

// h13: [rows, 2 * inner], contiguous, f64, f32 or bf16: h1, then h3. Returns silu(h1) * h3:
// [rows, inner], in the same type; computed in float32 where that is bf16.
at::Tensor SwiGlu(const at::Tensor& h13);

// The gradient for h13: [rows, 2 * inner]. grad: [rows, inner], contiguous, of h13's type: the
// gradient of SwiGlu(h13).
at::Tensor SwiGluBackward(const at::Tensor& h13, const at::Tensor& grad);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_SWIGLU_H_
