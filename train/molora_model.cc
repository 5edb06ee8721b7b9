#include "train/molora_model.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "train/expert_rows.h"
#include "train/rms_norm.h"
#include "train/transformer_ops.h"

namespace adamoe {
namespace {

constexpr double kRouterDeviation = 0.02;

// What the true picks add to a linear layer's output. x: [tokens, in] -> [tokens, out], in x's
// type. Only true picks get a row.
at::Tensor Delta(const MoLoraConfig& config, const RoutedLora& lora, const at::Tensor& x,
                 RouterOutput* routing) {
  *routing = Route(x, lora.router.narrow(0, 0, config.num_experts),
                   lora.router.narrow(0, config.num_experts, config.num_null_experts),
                   config.experts_per_token);
  const ExpertRows rows = ArrangeRows(routing->picks, config.num_experts, kRowMultiple);
  const at::ScalarType dtype = lora.a.scalar_type();
  const std::vector<at::Tensor> inputs =
      GatherRows(x.to(dtype), rows).split_with_sizes(rows.counts);
  const double scale = config.alpha / config.rank;
  const std::vector<at::Tensor> weights = (GatherWeights(routing->weights, rows) * scale)
                                              .to(dtype)
                                              .unsqueeze(1)
                                              .split_with_sizes(rows.counts);
  const std::vector<at::Tensor> a = lora.a.unbind(0);
  const std::vector<at::Tensor> b = lora.b.unbind(0);
  std::vector<at::Tensor> outputs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    outputs.push_back(Linear(Linear(inputs[i], a[i]) * weights[i], b[i]));
  }
  return SumRows(at::cat(outputs), rows).to(x.scalar_type());
}

// One decoder layer. `routing`: its seven outputs.
class Layer {
 public:
  Layer(const ModelConfig& config, const MixtralLayerParameters& base, const MoLoraConfig& molora,
        const MoLoraLayer& loras, RouterOutput* routing)
      : config_(config), base_(base), molora_(molora), loras_(loras), routing_(routing) {}

  // x: [batch * length, hidden] -> the same.
  at::Tensor Forward(const Positions& positions, int64_t batch, at::Tensor x) const {
    const double epsilon = config_.rms_norm_eps;
    const at::Tensor normed = RmsNorm(x, base_.input_norm, epsilon);
    const at::Tensor qkv = RunTogether(normed, base_.qkv_proj, {kQTarget, kKTarget, kVTarget});
    const at::Tensor attended =
        Attend(config_, positions, qkv.view({batch, -1, qkv.size(1)}), base_.qkv_proj.scalar_type())
            .flatten(0, 1)
            .to(x.scalar_type());
    x = x + RunTogether(attended, base_.o_proj, {kOTarget});
    const std::vector<at::Tensor> inner = RunTogether(RmsNorm(x, base_.post_attn_norm, epsilon),
                                                      base_.w13[0], {kGateTarget, kUpTarget})
                                              .chunk(2, -1);
    return x + RunTogether(at::silu(inner[0]) * inner[1], base_.w2[0], {kDownTarget});
  }

 private:
  // Linear layers that read the same input and whose base weights lie one after the other.
  at::Tensor RunTogether(const at::Tensor& x, const at::Tensor& weight,
                         std::initializer_list<MoLoraTarget> targets) const {
    std::vector<at::Tensor> deltas;
    for (MoLoraTarget target : targets) {
      deltas.push_back(Delta(molora_, loras_[target], x, &routing_[target]));
    }
    return Linear(x, weight).to(x.scalar_type()) + at::cat(deltas, -1);
  }

  const ModelConfig& config_;
  const MixtralLayerParameters& base_;
  const MoLoraConfig& molora_;
  const MoLoraLayer& loras_;
  RouterOutput* const routing_;
};

}  // namespace

const std::array<const char*, kNumMoLoraTargets> kMoLoraTargetNames = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

absl::Status CheckMoLoraConfig(const MoLoraConfig& config) {
  const auto check = [](const char* name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", value, ", expected ", min, " to ", max));
  };
  absl::Status status = check("num_experts", config.num_experts, 1, kMaxExperts);
  status.Update(
      check("num_null_experts", config.num_null_experts, 0, kMaxExperts - config.num_experts));
  status.Update(check("experts_per_token", config.experts_per_token, 1,
                      std::min(config.num_experts + config.num_null_experts, kMaxExpertsPerToken)));
  status.Update(check("r", config.rank, 1, kMaxMoLoraRank));
  if (!(config.alpha > 0 && std::isfinite(config.alpha))) {
    status.Update(absl::InvalidArgumentError(
        absl::StrCat("lora_alpha is ", config.alpha, ", expected a number above 0")));
  }
  return status;
}

std::array<LinearShape, kNumMoLoraTargets> MoLoraTargetShapes(const ModelConfig& base) {
  const int64_t hidden = base.hidden_size;
  const int64_t inner = base.intermediate_size;
  const int64_t q_rows = int64_t{base.num_heads} * base.head_dim;
  const int64_t kv_rows = int64_t{base.num_kv_heads} * base.head_dim;
  return {{{hidden, q_rows},
           {hidden, kv_rows},
           {hidden, kv_rows},
           {q_rows, hidden},
           {hidden, inner},
           {hidden, inner},
           {inner, hidden}}};
}

MoLora RandomMoLora(const ModelConfig& base, const MoLoraConfig& config, uint64_t seed) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const std::array<LinearShape, kNumMoLoraTargets> shapes = MoLoraTargetShapes(base);
  MoLora molora{config, {}};
  for (int32_t i = 0; i < base.num_layers; ++i) {
    MoLoraLayer layer;
    for (int target = 0; target < kNumMoLoraTargets; ++target) {
      const auto [in, out] = shapes[target];
      const int64_t columns = int64_t{config.num_experts} + config.num_null_experts;
      const double bound = 1 / std::sqrt(static_cast<double>(in));
      layer[target].router = at::randn({columns, in}, generator, at::kFloat) * kRouterDeviation;
      layer[target].a =
          (at::rand({config.num_experts, config.rank, in}, generator, at::kFloat) * 2 - 1) * bound;
      layer[target].b = at::zeros({config.num_experts, out, config.rank});
    }
    molora.layers.push_back(std::move(layer));
  }
  return molora;
}

std::string MoLoraTensorPrefix(int32_t layer, MoLoraTarget target) {
  return absl::StrCat("base_model.model.model.layers.", layer, ".", kMoLoraTargetNames[target],
                      ".molora_");
}

NamedTensors MoLoraTensors(const MoLora& molora) {
  NamedTensors tensors;
  for (size_t i = 0; i < molora.layers.size(); ++i) {
    for (int target = 0; target < kNumMoLoraTargets; ++target) {
      const std::string prefix =
          MoLoraTensorPrefix(static_cast<int32_t>(i), static_cast<MoLoraTarget>(target));
      const RoutedLora& lora = molora.layers[i][target];
      tensors.emplace_back(prefix + "router.weight", lora.router);
      tensors.emplace_back(prefix + "A.weight", lora.a);
      tensors.emplace_back(prefix + "B.weight", lora.b);
    }
  }
  return tensors;
}

void MoveTo(at::Device device, MoLora* molora) {
  for (MoLoraLayer& layer : molora->layers) {
    for (RoutedLora& lora : layer) {
      lora = {lora.router.to(device), lora.a.to(device), lora.b.to(device)};
    }
  }
}

MoLora ComputeCopy(const MoLora& molora, at::ScalarType matrix_type) {
  const auto leaf = [](const at::Tensor& tensor, at::ScalarType dtype) {
    return tensor.detach().to(dtype, /*non_blocking=*/false, /*copy=*/true).set_requires_grad(true);
  };
  MoLora copy{molora.config, {}};
  for (const MoLoraLayer& layer : molora.layers) {
    MoLoraLayer leaves;
    for (int target = 0; target < kNumMoLoraTargets; ++target) {
      const RoutedLora& lora = layer[target];
      leaves[target] = {leaf(lora.router, lora.router.scalar_type()), leaf(lora.a, matrix_type),
                        leaf(lora.b, matrix_type)};
    }
    copy.layers.push_back(std::move(leaves));
  }
  return copy;
}

ReferenceOutput MoLoraForward(const ReferenceModel& base, const MoLora& molora,
                              const at::Tensor& token_ids) {
  const MixtralParameters& parameters = base.parameters;
  const int64_t batch = token_ids.size(0);
  const Positions positions =
      MakePositions(base.config, token_ids.size(1), parameters.embed_tokens.device());
  const at::ScalarType wide = ActivationType(parameters.embed_tokens.scalar_type());
  ReferenceOutput output;
  output.routing.resize(parameters.layers.size() * kNumMoLoraTargets);
  at::Tensor x = at::embedding(parameters.embed_tokens,
                               token_ids.flatten().to(parameters.embed_tokens.device()))
                     .to(wide);
  for (size_t i = 0; i < parameters.layers.size(); ++i) {
    const Layer layer(base.config, parameters.layers[i], molora.config, molora.layers[i],
                      &output.routing[i * kNumMoLoraTargets]);
    x = layer.Forward(positions, batch, x);
  }
  output.logits = FinalLogits(base.config, parameters, x.view({batch, -1, x.size(1)}));
  return output;
}

}  // namespace adamoe
