#include "train/mixtral_reference.h"

#include <tuple>

#include "train/expert_mlp.h"
#include "train/expert_rows.h"
#include "train/rms_norm.h"
#include "train/transformer_ops.h"

namespace adamoe {
namespace {

// x: [tokens, hidden], f32 -> [tokens, hidden].
at::Tensor MoeBlock(const ModelConfig& config, const MixtralLayerParameters& layer,
                    const at::Tensor& x, RouterOutput* routing) {
  *routing = Route(x, layer.gate, layer.gate2, config.experts_per_token);
  const ExpertRows rows = ArrangeRows(routing->picks, config.num_experts, kRowMultiple);
  const at::Tensor outputs =
      ExpertMlp(GatherRows(x.to(layer.w13.scalar_type()), rows), layer.w13, layer.w2, rows.counts);
  return SumWeightedRows(outputs, routing->weights, rows);
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

at::Tensor FinalLogits(const ModelConfig& config, const MixtralParameters& parameters,
                       const at::Tensor& x) {
  at::Tensor head = parameters.lm_head;
  if (!head.defined()) {
    // Tied embeddings are kept in float32; the product runs in the type of the other matrices.
    head = parameters.embed_tokens.to(
        parameters.layers.empty() ? x.scalar_type() : parameters.layers[0].qkv_proj.scalar_type());
  }
  return Linear(RmsNorm(x, parameters.norm, config.rms_norm_eps), head).to(x.scalar_type());
}

ReferenceOutput ReferenceForward(const ModelConfig& config, const MixtralParameters& parameters,
                                 const at::Tensor& token_ids) {
  const int64_t batch = token_ids.size(0);
  const int64_t length = token_ids.size(1);
  const Positions positions = MakePositions(config, length, parameters.embed_tokens.device());
  const double epsilon = config.rms_norm_eps;
  ReferenceOutput output;
  output.routing.resize(parameters.layers.size());
  const at::ScalarType wide = ActivationType(parameters.embed_tokens.scalar_type());
  at::Tensor x =
      at::embedding(parameters.embed_tokens, token_ids.to(parameters.embed_tokens.device()))
          .to(wide);
  for (size_t i = 0; i < parameters.layers.size(); ++i) {
    const MixtralLayerParameters& layer = parameters.layers[i];
    const at::Tensor qkv = Linear(RmsNorm(x, layer.input_norm, epsilon), layer.qkv_proj);
    x = x + Linear(Attend(config, positions, qkv, qkv.scalar_type()), layer.o_proj);
    const at::Tensor normed = RmsNorm(x, layer.post_attn_norm, epsilon);
    const at::Tensor flat = normed.view({batch * length, config.hidden_size});
    x = x + MoeBlock(config, layer, flat, &output.routing[i]).view_as(x);
  }
  output.logits = FinalLogits(config, parameters, x);
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
