#include "train/transformer_ops.h"

#include <optional>

#include "train/rotated_heads.h"

namespace adamoe {

at::ScalarType ActivationType(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x.to(weight.scalar_type()), weight);
}

Positions MakePositions(const ModelConfig& config, int64_t length, at::Device device) {
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, at::kFloat) / config.head_dim;
  const at::Tensor frequencies = at::pow(config.rope_theta, exponents).reciprocal();
  const at::Tensor angles = at::outer(at::arange(length, at::kFloat), frequencies);
  Positions positions;
  positions.cos = angles.cos().to(device);
  positions.sin = angles.sin().to(device);
  if (config.sliding_window > 0 && config.sliding_window < length) {
    const at::Tensor causal = at::ones({length, length}, at::kBool).tril();
    positions.visible = causal.triu(1 - config.sliding_window).to(device);
  }
  return positions;
}

at::Tensor Attend(const ModelConfig& config, const Positions& positions, const at::Tensor& qkv,
                  at::ScalarType dtype) {
  const AttentionHeads heads =
      RotatedHeads(qkv, config.num_heads, config.num_kv_heads, positions.cos, positions.sin);
  std::optional<at::Tensor> mask;
  if (positions.visible.defined()) mask = positions.visible;
  const at::Tensor out = at::scaled_dot_product_attention(
      heads.q, heads.k, heads.v, mask, /*dropout_p=*/0.0, /*is_causal=*/!mask.has_value());
  return out.transpose(1, 2).flatten(2).to(dtype);
}

}  // namespace adamoe
