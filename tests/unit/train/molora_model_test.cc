// Mo-LoRA against its formula written out token by token, its gradients against finite differences.
#include "train/molora_model.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/unit/train/tiny_molora.h"
#include "train/evaluate.h"
#include "train/losses.h"
#include "train/molora_scorer.h"

namespace adamoe {
namespace {

void MakeDouble(ReferenceModel* base, MoLora* molora) {
  for (at::Tensor* tensor : AllTensors(&base->parameters)) *tensor = tensor->to(at::kDouble);
  ForEachTensor(molora, [](int, at::Tensor* tensor) { *tensor = tensor->to(at::kDouble); });
}

TEST(MoLoraForwardTest, StartEqualsTheBase) {
  for (const int32_t sliding_window : {0, 5}) {
    ReferenceModel base = DenseModel(1);
    base.config.sliding_window = sliding_window;
    const MoLora molora = RandomMoLora(base.config, SmallConfig(), 2);
    const at::Tensor ids = Ids(2, 11, 3);
    const ReferenceOutput output = MoLoraForward(base, molora, ids);
    const ReferenceOutput expected = ReferenceForward(base.config, base.parameters, ids);
    EXPECT_TRUE(at::allclose(output.logits, expected.logits, 1e-5, 1e-5));
    EXPECT_EQ(output.routing.size(), 14u);
    const double load = MeanLoad(output.routing, 4);
    EXPECT_GT(load, 0.5);
    EXPECT_LT(load, 3);
  }
}

// The whole model once more, in loops over numbers.
class NaiveModel {
 public:
  using Vector = std::vector<double>;

  NaiveModel(const ReferenceModel& base, const MoLora& molora) : base_(base), molora_(molora) {}

  // The logits of every position of one row.
  std::vector<Vector> Forward(const at::Tensor& ids) const {
    const MixtralParameters& parameters = base_.parameters;
    std::vector<Vector> x;
    for (int64_t t = 0; t < ids.size(1); ++t) {
      x.push_back(Values(parameters.embed_tokens[ids[0][t].item<int64_t>()]));
    }
    for (size_t i = 0; i < molora_.layers.size(); ++i) {
      Attention(parameters.layers[i], molora_.layers[i], &x);
      for (Vector& token : x) Mlp(parameters.layers[i], molora_.layers[i], &token);
    }
    std::vector<Vector> logits;
    for (const Vector& token : x) {
      logits.push_back(Product(parameters.lm_head, Normed(token, parameters.norm)));
    }
    return logits;
  }

 private:
  static Vector Values(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.contiguous();
    return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
  }

  static Vector Product(const at::Tensor& matrix, const Vector& x) {
    const Vector values = Values(matrix);
    Vector y(values.size() / x.size());
    for (size_t row = 0; row < y.size(); ++row) {
      y[row] = std::inner_product(x.begin(), x.end(), values.begin() + row * x.size(), 0.0);
    }
    return y;
  }

  static void Add(Vector* x, const Vector& y) {
    for (size_t i = 0; i < x->size(); ++i) (*x)[i] += y[i];
  }

  Vector Normed(const Vector& x, const at::Tensor& weight) const {
    const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    Vector y = Values(weight);
    for (size_t i = 0; i < x.size(); ++i) {
      y[i] *= x[i] / std::sqrt(squares / static_cast<double>(x.size()) + base_.config.rms_norm_eps);
    }
    return y;
  }

  // y = W x + (alpha / r) sum w_i B_i A_i x.
  Vector Linear(const at::Tensor& weight, const RoutedLora& lora, const Vector& x) const {
    const MoLoraConfig& config = molora_.config;
    Vector odds = Product(lora.router, x);
    for (double& value : odds) value = std::exp(value);
    std::vector<size_t> order(odds.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return odds[a] > odds[b]; });
    order.resize(config.experts_per_token);
    double sum = 0;
    for (size_t i : order) sum += i < static_cast<size_t>(config.num_experts) ? odds[i] : 0;
    Vector y = Product(weight, x);
    for (size_t i : order) {
      if (i >= static_cast<size_t>(config.num_experts)) continue;
      Vector delta =
          Product(lora.b[static_cast<int64_t>(i)], Product(lora.a[static_cast<int64_t>(i)], x));
      for (double& value : delta) value *= odds[i] / sum * config.alpha / config.rank;
      Add(&y, delta);
    }
    return y;
  }

  void Rotate(size_t position, Vector* x) const {
    const size_t width = base_.config.head_dim;
    for (size_t head = 0; head < x->size() / width; ++head) {
      for (size_t i = 0; i < width / 2; ++i) {
        const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(width);
        const double angle =
            static_cast<double>(position) / std::pow(base_.config.rope_theta, exponent);
        double& first = (*x)[head * width + i];
        double& second = (*x)[head * width + i + width / 2];
        const double old = first;
        first = old * std::cos(angle) - second * std::sin(angle);
        second = second * std::cos(angle) + old * std::sin(angle);
      }
    }
  }

  void Attention(const MixtralLayerParameters& layer, const MoLoraLayer& loras,
                 std::vector<Vector>* x) const {
    const int64_t q_rows = layer.o_proj.size(1);
    const int64_t kv_rows = (layer.qkv_proj.size(0) - q_rows) / 2;
    std::vector<Vector> keys;
    std::vector<Vector> values;
    for (size_t t = 0; t < x->size(); ++t) {
      const Vector normed = Normed((*x)[t], layer.input_norm);
      const auto project = [&](int64_t begin, int64_t rows, MoLoraTarget target) {
        return Linear(layer.qkv_proj.narrow(0, begin, rows), loras[target], normed);
      };
      Vector q = project(0, q_rows, kQTarget);
      keys.push_back(project(q_rows, kv_rows, kKTarget));
      values.push_back(project(q_rows + kv_rows, kv_rows, kVTarget));
      Rotate(t, &q);
      Rotate(t, &keys.back());
      Add(&(*x)[t], Linear(layer.o_proj, loras[kOTarget], Attended(q, keys, values)));
    }
  }

  Vector Attended(const Vector& q, const std::vector<Vector>& keys,
                  const std::vector<Vector>& values) const {
    const size_t width = base_.config.head_dim;
    const size_t group = base_.config.num_heads / base_.config.num_kv_heads;
    Vector out(q.size());
    for (size_t head = 0; head < q.size() / width; ++head) {
      const size_t kv = head / group * width;
      const auto q_begin = q.begin() + static_cast<int64_t>(head * width);
      Vector odds;
      for (const Vector& key : keys) {
        const double score = std::inner_product(q_begin, q_begin + static_cast<int64_t>(width),
                                                key.begin() + static_cast<int64_t>(kv), 0.0);
        odds.push_back(std::exp(score / std::sqrt(static_cast<double>(width))));
      }
      const double sum = std::accumulate(odds.begin(), odds.end(), 0.0);
      for (size_t s = 0; s < odds.size(); ++s) {
        for (size_t i = 0; i < width; ++i) {
          out[head * width + i] += odds[s] / sum * values[s][kv + i];
        }
      }
    }
    return out;
  }

  void Mlp(const MixtralLayerParameters& layer, const MoLoraLayer& loras, Vector* x) const {
    const Vector normed = Normed(*x, layer.post_attn_norm);
    const int64_t inner = layer.w2.size(2);
    Vector gate = Linear(layer.w13[0].narrow(0, 0, inner), loras[kGateTarget], normed);
    const Vector up = Linear(layer.w13[0].narrow(0, inner, inner), loras[kUpTarget], normed);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
    Add(x, Linear(layer.w2[0], loras[kDownTarget], gate));
  }

  const ReferenceModel& base_;
  const MoLora& molora_;
};

TEST(MoLoraForwardTest, EqualsTheFormulaInLoops) {
  ReferenceModel base = DenseModel(4);
  MoLora molora = LivelyMoLora(base.config, SmallConfig(), 5);
  MakeDouble(&base, &molora);
  const at::Tensor ids = Ids(1, 9, 6);
  const ReferenceOutput output = MoLoraForward(base, molora, ids);
  const std::vector<std::vector<double>> expected = NaiveModel(base, molora).Forward(ids);
  const at::Tensor unchanged = ReferenceForward(base.config, base.parameters, ids).logits;
  EXPECT_GT((output.logits - unchanged).abs().max().item<double>(), 0.1);
  for (int64_t t = 0; t < ids.size(1); ++t) {
    const at::Tensor row = at::tensor(expected[t], at::kDouble);
    EXPECT_LT((output.logits[0][t] - row).abs().max().item<double>(), 1e-4) << t;
  }
}

// The experts hold NaN, which any product with them would show.
TEST(MoLoraForwardTest, TokensWithOnlyNullPicksGetExactlyTheBase) {
  const ReferenceModel base = DenseModel(7);
  MoLoraConfig config = SmallConfig();
  config.num_null_experts = 2;
  config.experts_per_token = 1;
  MoLora molora = RandomMoLora(base.config, config, 8);
  const at::Tensor ids = Ids(2, 8, 9);
  const at::Tensor expected = MoLoraForward(base, molora, ids).logits;  // B is zero
  ForEachTensor(&molora, [&](int factor, at::Tensor* tensor) {
    if (factor != 0) {
      tensor->fill_(std::numeric_limits<float>::quiet_NaN());
      return;
    }
    // Either null expert wins on one side of a plane.
    tensor->narrow(0, 0, config.num_experts).zero_();
    tensor->select(0, 5).copy_(-tensor->select(0, 4));
  });
  const ReferenceOutput output = MoLoraForward(base, molora, ids);
  EXPECT_EQ(MeanLoad(output.routing, config.num_experts), 0);
  EXPECT_TRUE(output.logits.equal(expected));
}

TEST(MoLoraForwardTest, GradientsEqualFiniteDifferences) {
  at::set_num_threads(1);  // hundreds of passes over tensors too small to share
  ReferenceModel base = DenseModel(10);
  MoLora molora = LivelyMoLora(base.config, SmallConfig(), 11);
  MakeDouble(&base, &molora);
  std::vector<at::Tensor> leaves;
  for (auto& [name, tensor] : MoLoraTensors(molora)) leaves.push_back(tensor.requires_grad_());
  const at::Tensor ids = Ids(2, 9, 12);
  const auto loss_of = [&] {
    const ReferenceOutput output = MoLoraForward(base, molora, ids.narrow(1, 0, 8));
    return NextTokenLoss(output.logits, ids.narrow(1, 1, 8)) +
           0.1 * MeanBalanceLoss(RouterLoss::kNull, output.routing, 4);
  };
  const std::vector<at::Tensor> gradients = torch::autograd::grad({loss_of()}, leaves);
  std::mt19937_64 random(13);
  constexpr double kStep = 1e-6;
  int num_nonzero = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    for (int trial = 0; trial < 3; ++trial) {
      const int64_t at = static_cast<int64_t>(random() % leaves[i].numel());
      double* entry = leaves[i].mutable_data_ptr<double>() + at;
      const double original = *entry;
      *entry = original + kStep;
      const double above = loss_of().item<double>();
      *entry = original - kStep;
      const double below = loss_of().item<double>();
      *entry = original;
      const double expected = (above - below) / (2 * kStep);
      const double actual = gradients[i].contiguous().const_data_ptr<double>()[at];
      EXPECT_NEAR(actual, expected, 1e-6 + 1e-5 * std::abs(expected)) << "tensor " << i;
      num_nonzero += std::abs(expected) > 1e-5;
    }
  }
  EXPECT_GT(num_nonzero, 60);  // of 126
}

TEST(MoLoraCostTest, CountsTheRowsThatRan) {
  MoLoraModel model{DenseModel(14), {}};
  model.molora = LivelyMoLora(model.base.config, SmallConfig(), 15);
  // Per layer: attention 2 * 20 * 6 * (4 + 2), MLP 3 * 20 * 13; head 37 * 20.
  const ModelCost cost = MoLoraCost(model.base.config, model.molora.config);
  EXPECT_EQ(cost.fixed_products, 2 * (1440 + 780) + 740);
  const std::vector<double> layer = {2 * 44, 2 * 32, 2 * 32, 2 * 44, 2 * 33, 2 * 33, 2 * 33};
  double executed = 0;
  double baseline = 0;
  const at::Tensor ids = Ids(1, 8, 16);
  const ReferenceOutput output = model.Forward(ids.narrow(1, 0, 7));
  ASSERT_EQ(cost.expert_products.size(), output.routing.size());
  for (size_t i = 0; i < output.routing.size(); ++i) {
    EXPECT_EQ(cost.expert_products[i], layer[i % 7]);
    executed += (output.routing[i].picks < 4).sum().item<double>() / 7 * layer[i % 7];
    baseline += 2 * layer[i % 7];
  }
  std::vector<int32_t> document;
  for (int64_t t = 0; t < 8; ++t) document.push_back(ids[0][t].item<int32_t>());
  const auto scorer = MakeModelScorer(ScoredModelOf(model), 1);
  const auto evaluation = EvaluateTokens(*scorer, {document}, 20, {});
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_NEAR(evaluation->load, MeanLoad(output.routing, 4), 1e-9);
  EXPECT_NEAR(evaluation->expert_flops_ratio, executed / baseline, 1e-9);
  EXPECT_NEAR(evaluation->model_flops_ratio,
              (cost.fixed_products + executed) / (cost.fixed_products + baseline), 1e-9);
}

}  // namespace
}  // namespace adamoe
