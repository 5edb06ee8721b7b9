#include "train/mixtral_reference.h"

#include <cmath>
#include <limits>
#include <tuple>

#include "train/expert_rows.h"

namespace adamoe {
namespace {

// The type activations have between the products with weights of type `dtype`.
at::ScalarType ActivationType(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

// x · weightᵀ in the weight's type. x: [..., in]; weight: [out, in].
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::linear(x.to(weight.scalar_type()), weight);
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + epsilon) * weight;
}

// What all layers share: rotations of every position and which keys it sees.
struct Positions {
  at::Tensor cos;      // [length, 1, head_dim]
  at::Tensor sin;      // [length, 1, head_dim]
  at::Tensor visible;  // [length, length], bool; undefined when a position sees all before it
};

Positions MakePositions(const ModelConfig& config, int64_t length) {
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, at::kFloat) / config.head_dim;
  const at::Tensor frequencies = at::pow(config.rope_theta, exponents).reciprocal();
  const at::Tensor angles = at::outer(at::arange(length, at::kFloat), frequencies);
  Positions positions;
  positions.cos = at::cat({angles, angles}, -1).cos().unsqueeze(1);
  positions.sin = at::cat({angles, angles}, -1).sin().unsqueeze(1);
  if (config.sliding_window > 0 && config.sliding_window < length) {
    const at::Tensor causal = at::ones({length, length}, at::kBool).tril();
    positions.visible = causal.triu(1 - config.sliding_window);
  }
  return positions;
}

// Hugging Face's half rotation. x: [batch, length, heads, head_dim].
at::Tensor Rotate(const at::Tensor& x, const Positions& positions) {
  const std::vector<at::Tensor> halves = x.chunk(2, -1);
  return x * positions.cos + at::cat({-halves[1], halves[0]}, -1) * positions.sin;
}

// x: [batch, length, hidden] -> [batch, length, hidden].
at::Tensor Attention(const ModelConfig& config, const MixtralLayerParameters& layer,
                     const Positions& positions, const at::Tensor& x) {
  const int64_t batch = x.size(0);
  const int64_t length = x.size(1);
  const int64_t heads = config.num_heads;
  const int64_t kv_heads = config.num_kv_heads;
  const at::ScalarType dtype = layer.qkv_proj.scalar_type();
  const at::Tensor qkv =
      Linear(x, layer.qkv_proj).view({batch, length, heads + 2 * kv_heads, config.head_dim});
  const at::Tensor rotated =
      Rotate(qkv.narrow(2, 0, heads + kv_heads).to(ActivationType(dtype)), positions)
          .to(dtype)
          .transpose(1, 2);
  const at::Tensor q = rotated.narrow(1, 0, heads);
  const int64_t group = heads / kv_heads;
  const at::Tensor k = rotated.narrow(1, heads, kv_heads).repeat_interleave(group, 1);
  const at::Tensor v =
      qkv.narrow(2, heads + kv_heads, kv_heads).transpose(1, 2).repeat_interleave(group, 1);
  std::optional<at::Tensor> mask;
  if (positions.visible.defined()) mask = positions.visible;
  const at::Tensor out = at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0.0,
                                                          /*is_causal=*/!mask.has_value());
  return Linear(out.transpose(1, 2).reshape({batch, length, heads * config.head_dim}),
                layer.o_proj);
}

// E_i on the rows of each expert i. x: [num_rows, hidden], in order of expert.
at::Tensor RunExperts(const MixtralLayerParameters& layer, const ExpertRows& rows,
                      const at::Tensor& x) {
  const std::vector<at::Tensor> inputs = x.split_with_sizes(rows.counts);
  const std::vector<at::Tensor> w13 = layer.w13.unbind(0);
  const std::vector<at::Tensor> w2 = layer.w2.unbind(0);
  std::vector<at::Tensor> outputs;
  for (size_t expert = 0; expert < inputs.size(); ++expert) {
    const std::vector<at::Tensor> inner = Linear(inputs[expert], w13[expert]).chunk(2, -1);
    outputs.push_back(Linear(at::silu(inner[0]) * inner[1], w2[expert]));
  }
  return at::cat(outputs);
}

// x: [tokens, hidden], f32 -> [tokens, hidden].
at::Tensor MoeBlock(const ModelConfig& config, const MixtralLayerParameters& layer,
                    const at::Tensor& x, RouterOutput* routing) {
  *routing = Route(x, layer.gate, layer.gate2, config.experts_per_token);
  const ExpertRows rows = ArrangeRows(routing->picks, config.num_experts);
  const at::Tensor outputs =
      RunExperts(layer, rows, GatherRows(x.to(layer.w13.scalar_type()), rows));
  const at::Tensor row_weights = routing->weights.view(-1).index_select(0, rows.picks);
  return SumRows(outputs * row_weights.to(outputs.scalar_type()).unsqueeze(1), rows);
}

}  // namespace

RouterOutput Route(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& gate2,
                   int64_t experts_per_token) {
  RouterOutput routing;
  routing.probabilities = at::softmax(at::linear(x, at::cat({gate, gate2})), -1);
  const at::Tensor order = std::get<1>(
      routing.probabilities.detach().sort(/*stable=*/true, /*dim=*/-1, /*descending=*/true));
  routing.picks = order.narrow(1, 0, experts_per_token).contiguous();
  const at::Tensor is_true = (routing.picks < gate.size(0)).to(at::kFloat);
  const at::Tensor kept = routing.probabilities.gather(1, routing.picks) * is_true;
  const at::Tensor total = kept.sum(-1, /*keepdim=*/true);
  // A token without true picks divides 0 by 1.
  routing.weights = kept / (total + (total == 0).to(at::kFloat));
  return routing;
}

ReferenceOutput ReferenceForward(const ModelConfig& config, const MixtralParameters& parameters,
                                 const at::Tensor& token_ids) {
  const int64_t batch = token_ids.size(0);
  const int64_t length = token_ids.size(1);
  const Positions positions = MakePositions(config, length);
  const double epsilon = config.rms_norm_eps;
  ReferenceOutput output;
  output.routing.resize(parameters.layers.size());
  const at::ScalarType wide = ActivationType(parameters.embed_tokens.scalar_type());
  at::Tensor x = at::embedding(parameters.embed_tokens, token_ids).to(wide);
  for (size_t i = 0; i < parameters.layers.size(); ++i) {
    const MixtralLayerParameters& layer = parameters.layers[i];
    x = x + Attention(config, layer, positions, RmsNorm(x, layer.input_norm, epsilon));
    const at::Tensor normed = RmsNorm(x, layer.post_attn_norm, epsilon);
    const at::Tensor flat = normed.view({batch * length, config.hidden_size});
    x = x + MoeBlock(config, layer, flat, &output.routing[i]).view_as(x);
  }
  at::Tensor head = parameters.lm_head;
  if (!head.defined()) {
    // Tied embeddings are kept in float32; the product runs in the type of the other matrices.
    head = parameters.embed_tokens.to(
        parameters.layers.empty() ? wide : parameters.layers[0].qkv_proj.scalar_type());
  }
  output.logits = Linear(RmsNorm(x, parameters.norm, epsilon), head).to(wide);
  return output;
}

at::Tensor TrueExpertCounts(const ModelConfig& config, const std::vector<RouterOutput>& routing) {
  std::vector<at::Tensor> counts;
  for (const RouterOutput& layer : routing) {
    counts.push_back((layer.picks < config.num_experts).sum(-1));
  }
  return at::stack(counts, 1);
}

}  // namespace adamoe
