// What the decoder layers of every reference model are made of, in differentiable at::
// operations. Products run in the type of their matrices (float32, bfloat16, or float64 in tests),
// everything between them in the activation type. Pure and thread-safe.
#ifndef ADAMOE_TRAIN_TRANSFORMER_OPS_H_
#define ADAMOE_TRAIN_TRANSFORMER_OPS_H_

#include <ATen/ATen.h>

#include <cstdint>

#include "server/weights/model_config.h"

namespace adamoe {

// The type activations have between the products with matrices of type `dtype`.
at::ScalarType ActivationType(at::ScalarType dtype);

// x · weightᵀ in the weight's type. x: [..., in]; weight: [out, in].
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight);

// What all layers share: rotations of every position and which keys it sees.
struct Positions {
  at::Tensor cos;      // [length, head_dim / 2], f32
  at::Tensor sin;      // [length, head_dim / 2], f32
  at::Tensor visible;  // [length, length], bool; undefined when a position sees all before it
};

Positions MakePositions(const ModelConfig& config, int64_t length, at::Device device);

// Attention between its linear layers, in float32 or wider. qkv: [batch, length, (heads + 2 *
// kv_heads) * head_dim], q, then k, then v, before rotation -> [batch, length, heads * head_dim],
// rounded to `dtype`.
at::Tensor Attend(const ModelConfig& config, const Positions& positions, const at::Tensor& qkv,
                  at::ScalarType dtype);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_TRANSFORMER_OPS_H_
