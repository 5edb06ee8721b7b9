#include "train/transformer_ops.h"

#include <optional>
#include <vector>

namespace adamoe {
namespace {

// Hugging Face's half rotation. x: [batch, length, heads, head_dim].
at::Tensor Rotate(const at::Tensor& x, const Positions& positions) {
  const std::vector<at::Tensor> halves = x.chunk(2, -1);
  return x * positions.cos + at::cat({-halves[1], halves[0]}, -1) * positions.sin;
}

}  // namespace

at::ScalarType ActivationType(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x.to(weight.scalar_type()), weight);
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + epsilon) * weight;
}

Positions MakePositions(const ModelConfig& config, int64_t length, at::Device device) {
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, at::kFloat) / config.head_dim;
  const at::Tensor frequencies = at::pow(config.rope_theta, exponents).reciprocal();
  const at::Tensor angles = at::outer(at::arange(length, at::kFloat), frequencies);
  Positions positions;
  positions.cos = at::cat({angles, angles}, -1).cos().unsqueeze(1).to(device);
  positions.sin = at::cat({angles, angles}, -1).sin().unsqueeze(1).to(device);
  if (config.sliding_window > 0 && config.sliding_window < length) {
    const at::Tensor causal = at::ones({length, length}, at::kBool).tril();
    positions.visible = causal.triu(1 - config.sliding_window).to(device);
  }
  return positions;
}

at::Tensor Attend(const ModelConfig& config, const Positions& positions, const at::Tensor& qkv,
                  at::ScalarType dtype) {
  const int64_t batch = qkv.size(0);
  const int64_t length = qkv.size(1);
  const int64_t heads = config.num_heads;
  const int64_t kv_heads = config.num_kv_heads;
  const at::Tensor by_head = qkv.view({batch, length, heads + 2 * kv_heads, config.head_dim});
  const at::Tensor rotated =
      Rotate(by_head.narrow(2, 0, heads + kv_heads).to(ActivationType(dtype)), positions)
          .to(dtype)
          .transpose(1, 2);
  const at::Tensor q = rotated.narrow(1, 0, heads);
  const int64_t group = heads / kv_heads;
  const at::Tensor k = rotated.narrow(1, heads, kv_heads).repeat_interleave(group, 1);
  const at::Tensor v = by_head.narrow(2, heads + kv_heads, kv_heads)
                           .to(dtype)
                           .transpose(1, 2)
                           .repeat_interleave(group, 1);
  std::optional<at::Tensor> mask;
  if (positions.visible.defined()) mask = positions.visible;
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0,
                                                          /*is_causal=*/!mask.has_value());
  return out.transpose(1, 2).reshape({batch, length, heads * config.head_dim});
}

}  // namespace adamoe
