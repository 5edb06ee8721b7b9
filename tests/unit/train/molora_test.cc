// Mo-LoRA against its formula written out token by token, its gradients against finite differences,
// and whole trainings.
#include "train/molora_model.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <vector>

#include "tests/unit/train/tiny_corpus.h"
#include "tests/unit/train/tiny_model.h"
#include "train/dense_model.h"
#include "train/evaluate.h"
#include "train/losses.h"
#include "train/molora_folder.h"
#include "train/molora_scorer.h"
#include "train/molora_training.h"
#include "train/pretrain.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

ModelConfig DenseConfig() {
  ModelConfig config = TinyConfig();
  config.num_experts = 1;
  config.num_null_experts = 0;
  config.experts_per_token = 1;
  return config;
}

ReferenceModel DenseModel(uint64_t seed) {
  return {DenseConfig(), LivelyParameters(DenseConfig(), seed)};
}

MoLoraConfig SmallConfig() {
  return {.num_experts = 4, .num_null_experts = 3, .experts_per_token = 3, .rank = 2, .alpha = 3};
}

// Calls `change` for the router, A and B of every linear layer.
void ForEachTensor(MoLora* molora, const std::function<void(int factor, at::Tensor*)>& change) {
  for (MoLoraLayer& layer : molora->layers) {
    for (RoutedLora& lora : layer) {
      change(0, &lora.router);
      change(1, &lora.a);
      change(2, &lora.b);
    }
  }
}

// Every tensor matters: routers decide clearly and B is not zero.
MoLora LivelyMoLora(const ModelConfig& base, const MoLoraConfig& config, uint64_t seed) {
  MoLora molora = RandomMoLora(base, config, seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.5);
  ForEachTensor(&molora, [&](int factor, at::Tensor* tensor) {
    if (factor == 0) tensor->mul_(20);
    if (factor != 2) return;
    float* const values = tensor->mutable_data_ptr<float>();
    std::generate_n(values, tensor->numel(), [&] { return normal(random); });
  });
  return molora;
}

void MakeDouble(ReferenceModel* base, MoLora* molora) {
  for (at::Tensor* tensor : AllTensors(&base->parameters)) *tensor = tensor->to(at::kDouble);
  ForEachTensor(molora, [](int, at::Tensor* tensor) { *tensor = tensor->to(at::kDouble); });
}

at::Tensor Ids(int64_t batch, int64_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  at::Tensor ids = at::empty({batch, length}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i) {
    ids.mutable_data_ptr<int64_t>()[i] =
        static_cast<int64_t>(random() % static_cast<uint64_t>(DenseConfig().vocab_size));
  }
  return ids;
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

NamedTensors LlamaTensors(const ReferenceModel& model) {
  NamedTensors tensors;
  for (auto& [name, tensor] : HuggingFaceTensors(model.parameters, at::kFloat)) {
    const size_t begin = name.find("block_sparse_moe.");
    if (begin == std::string::npos) {
      tensors.emplace_back(name, tensor);
      continue;
    }
    for (const auto& [from, to] : {std::pair("w1", "gate"), {"w2", "down"}, {"w3", "up"}}) {
      if (name.substr(begin) != absl::StrCat("block_sparse_moe.experts.0.", from, ".weight")) {
        continue;
      }
      tensors.emplace_back(absl::StrCat(name.substr(0, begin), "mlp.", to, "_proj.weight"), tensor);
    }
  }
  return tensors;
}

nlohmann::json LlamaConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 20},
          {"intermediate_size", 13},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 6},
          {"vocab_size", 37},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"hidden_act", "silu"}};
}

void WriteLlama(const TestFolder& folder, const nlohmann::json& config,
                const NamedTensors& tensors) {
  ASSERT_TRUE(WriteFileAtomically(folder.File("config.json"), config.dump()).ok());
  ASSERT_TRUE(WriteSafetensors(folder.File("model.safetensors"), tensors).ok());
}

TEST(DenseModelTest, LlamaFolderEqualsTheMixtralFolderOfTheSameWeights) {
  const ReferenceModel model = DenseModel(17);
  const TestFolder mixtral("mixtral");
  ASSERT_TRUE(WriteModelFolder(mixtral.path(), model.config, model.parameters, at::kFloat).ok());
  const TestFolder llama("llama");
  WriteLlama(llama, LlamaConfig(), LlamaTensors(model));
  const auto from_mixtral = LoadDenseModel(mixtral.path());
  const auto from_llama = LoadDenseModel(llama.path());
  ASSERT_TRUE(from_mixtral.ok()) << from_mixtral.status();
  ASSERT_TRUE(from_llama.ok()) << from_llama.status();
  EXPECT_EQ(from_llama->config.rope_theta, from_mixtral->config.rope_theta);
  EXPECT_EQ(from_llama->config.rms_norm_eps, from_mixtral->config.rms_norm_eps);
  EXPECT_EQ(from_llama->config.num_experts, 1);
  const at::Tensor ids = Ids(1, 9, 18);
  const auto logits = [&ids](const ReferenceModel& read) {
    return ReferenceForward(read.config, read.parameters, ids).logits;
  };
  EXPECT_TRUE(logits(*from_llama).equal(logits(*from_mixtral)));
}

TEST(DenseModelTest, LlamasDefaultsAreItsOwn) {
  nlohmann::json json = LlamaConfig();
  for (const char* key : {"num_key_value_heads", "rms_norm_eps", "head_dim"}) json.erase(key);
  json["sliding_window"] = 7;  // says nothing in a Llama
  const auto config = ParseLlamaConfig(json.dump(), "f");
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("head_dim"));  // 20 / 4 is odd
  json["head_dim"] = 4;
  const auto mended = ParseLlamaConfig(json.dump(), "f");
  ASSERT_TRUE(mended.ok()) << mended.status();
  EXPECT_EQ(mended->num_kv_heads, 4);
  EXPECT_EQ(mended->rope_theta, 1e4f);
  EXPECT_EQ(mended->rms_norm_eps, 1e-6f);
  EXPECT_EQ(mended->sliding_window, 0);
}

TEST(DenseModelTest, ErrorsNameFileAndWhatIsWrong) {
  const NamedTensors tensors = LlamaTensors(DenseModel(19));
  const auto message = [](const nlohmann::json& config, const NamedTensors& written) {
    const TestFolder folder("broken_llama");
    WriteLlama(folder, config, written);
    return std::string(LoadDenseModel(folder.path()).status().message());
  };
  const auto with = [](const char* key, const nlohmann::json& value) {
    nlohmann::json config = LlamaConfig();
    config[key] = value;
    return config;
  };
  const auto config_error = [](const char* key) {
    return testing::AllOf(HasSubstr("config.json: "), HasSubstr(key));
  };
  EXPECT_THAT(message(with("model_type", "gpt2"), tensors), config_error("model_type"));
  EXPECT_THAT(message(with("architectures", {"X"}), tensors), config_error("architectures"));
  EXPECT_THAT(message(with("attention_bias", true), tensors), config_error("attention_bias"));
  EXPECT_THAT(message(with("hidden_act", "gelu"), tensors), config_error("hidden_act"));
  EXPECT_THAT(message(with("rope_scaling", {{"factor", 2}}), tensors),
              config_error("rope_scaling"));
  EXPECT_THAT(message(with("hidden_size", "20"), tensors), config_error("hidden_size"));
  EXPECT_THAT(message(with("num_hidden_layers", 3), tensors), HasSubstr("model.layers.2."));
  EXPECT_THAT(message(with("num_hidden_layers", 1), tensors), HasSubstr("model.layers.1."));
  EXPECT_THAT(
      message(with("intermediate_size", 12), tensors),
      testing::AllOf(HasSubstr("model.safetensors"), HasSubstr("layers.0.mlp.gate_proj.weight")));
  NamedTensors biased = tensors;
  biased.emplace_back("model.layers.0.self_attn.q_proj.bias", at::zeros({24}));
  EXPECT_THAT(message(LlamaConfig(), biased), HasSubstr("q_proj.bias"));
  const TestFolder moe("moe");
  ASSERT_TRUE(
      WriteModelFolder(moe.path(), TinyConfig(), LivelyParameters(TinyConfig(), 1), at::kFloat)
          .ok());
  EXPECT_THAT(std::string(LoadDenseModel(moe.path()).status().message()),
              HasSubstr("5 experts and 3 null experts, expected a dense model"));
  EXPECT_EQ(LoadDenseModel(moe.File("none")).status().code(), absl::StatusCode::kNotFound);
}

TEST(MoLoraFolderTest, ComesBackWhole) {
  const ModelConfig base = DenseConfig();
  const MoLora molora = LivelyMoLora(base, SmallConfig(), 20);
  const TestFolder folder("adapter");
  ASSERT_TRUE(WriteMoLora(folder.path(), "somewhere", molora).ok());
  EXPECT_TRUE(IsMoLora(folder.path()));
  EXPECT_FALSE(IsMoLora(folder.File("none")));
  const auto read = ReadMoLora(folder.path(), base);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config, molora.config);
  const NamedTensors left = MoLoraTensors(molora);
  const NamedTensors right = MoLoraTensors(*read);
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_TRUE(left[i].second.equal(right[i].second)) << left[i].first;
  }
}

class BrokenMoLoraTest : public testing::Test {
 protected:
  BrokenMoLoraTest() {
    EXPECT_TRUE(WriteMoLora(folder_.path(), "base", molora_).ok());
    const auto text = ReadTextFile(folder_.File("adapter_config.json"));
    EXPECT_TRUE(text.ok()) << text.status();
    config_ = nlohmann::json::parse(*text);
  }

  std::string Message() const {
    return std::string(ReadMoLora(folder_.path(), DenseConfig()).status().message());
  }
  std::string MessageWith(const char* key, const nlohmann::json& value) const {
    nlohmann::json config = config_;
    config[key] = value;
    EXPECT_TRUE(WriteFileAtomically(folder_.File("adapter_config.json"), config.dump()).ok());
    return Message();
  }
  std::string MessageOf(const NamedTensors& tensors) const {
    EXPECT_TRUE(WriteSafetensors(folder_.File("adapter_model.safetensors"), tensors).ok());
    return Message();
  }

  const TestFolder folder_{"broken_adapter"};
  const MoLora molora_ = RandomMoLora(DenseConfig(), SmallConfig(), 21);
  nlohmann::json config_;
};

TEST_F(BrokenMoLoraTest, ConfigErrorsNameFileAndKey) {
  const auto error = [](const char* key) {
    return testing::AllOf(HasSubstr("adapter_config.json: "), HasSubstr(key));
  };
  EXPECT_THAT(MessageWith("peft_type", "LORA"), error("peft_type"));
  EXPECT_THAT(MessageWith("num_experts", 0), error("num_experts is 0"));
  EXPECT_THAT(MessageWith("num_experts", "4"), error("num_experts"));
  EXPECT_THAT(MessageWith("num_null_experts", -1), error("num_null_experts"));
  EXPECT_THAT(MessageWith("num_null_experts", 1 << 30), error("num_null_experts"));
  EXPECT_THAT(MessageWith("experts_per_token", 8), error("experts_per_token is 8"));
  EXPECT_THAT(MessageWith("r", 0), error("r is 0"));
  EXPECT_THAT(MessageWith("lora_alpha", -2), error("lora_alpha"));
  EXPECT_THAT(MessageWith("target_modules", {"q_proj"}), error("target_modules"));
  EXPECT_THAT(MessageWith("target_modules", {1, 2, 3, 4, 5, 6, 7}), error("target_modules"));
  EXPECT_THAT(MessageWith("r", 3), HasSubstr("self_attn.q_proj.molora_A.weight"));
}

TEST_F(BrokenMoLoraTest, TensorErrorsNameFileAndTensor) {
  NamedTensors tensors = MoLoraTensors(molora_);
  const std::string name = tensors[1].first;
  const auto error = [](const std::string& tensor) {
    return testing::AllOf(HasSubstr("adapter_model.safetensors: "), HasSubstr(tensor));
  };
  NamedTensors fewer = tensors;
  fewer.erase(fewer.begin() + 1);
  EXPECT_THAT(MessageOf(fewer), HasSubstr(name));
  NamedTensors reshaped = tensors;
  reshaped[1].second = at::zeros({4, 20, 2});
  EXPECT_THAT(MessageOf(reshaped), error(name));
  NamedTensors more = tensors;
  more.emplace_back(MoLoraTensorPrefix(2, kQTarget) + "A.weight", at::zeros({4, 2, 20}));
  EXPECT_THAT(MessageOf(more), error("layers.2.self_attn.q_proj"));
  std::ofstream(folder_.File("adapter_model.safetensors")) << "not tensors";
  EXPECT_THAT(Message(), HasSubstr("adapter_model.safetensors"));
  std::filesystem::remove(folder_.File("adapter_model.safetensors"));
  EXPECT_THAT(Message(), HasSubstr("adapter_model.safetensors"));
}

class MoLoraTrainingTest : public testing::Test {
 protected:
  MoLoraTrainingTest() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "The fox ran home. The hen ran too.\n";
    std::ofstream(folder_.File("corpus.txt")) << text;
    WriteTinyTokenizer(folder_.path());
    ModelConfig config = DenseConfig();
    config.vocab_size = kTinyVocabSize;
    config.tie_word_embeddings = true;
    EXPECT_TRUE(
        WriteModelFolder(folder_.path(), config, LivelyParameters(config, 22), at::kFloat).ok());
  }

  MoLoraTrainingOptions Options(const std::string& out, int64_t max_steps) const {
    MoLoraTrainingOptions options;
    options.model_dir = folder_.path();
    options.molora = SmallConfig();
    options.text = {folder_.File("corpus.txt")};
    options.window = 16;
    options.use_bfloat16 = false;
    options.trainer.out_dir = folder_.File(out);
    options.trainer.batch = 8;
    options.trainer.share = 4;
    options.trainer.max_steps = max_steps;
    options.trainer.learning_rate = 2e-2;
    return options;
  }

  Evaluation EvaluateFolder(const std::string& out, const std::string& file,
                            decltype(&EvaluateText) evaluate, int64_t context) const {
    const auto model = LoadMoLora(folder_.path(), folder_.File(out));
    EXPECT_TRUE(model.ok()) << model.status();
    const auto tokenizer = Tokenizer::Load(folder_.path());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto scorer = MakeModelScorer(ScoredModelOf(*model), 1);
    const auto evaluation =
        evaluate(folder_.File(file), {tokenizer->get(), 1, 300}, *scorer, {.context = context});
    EXPECT_TRUE(evaluation.ok()) << evaluation.status();
    return *evaluation;
  }

  double LossOf(const std::string& out) const {
    return EvaluateFolder(out, "corpus.txt", &EvaluateText, 16).loss;
  }

  std::string Read(const std::string& name) const {
    const auto content = ReadTextFile(folder_.File(name));
    EXPECT_TRUE(content.ok()) << content.status();
    return *content;
  }

  const TestFolder folder_{"molora_training"};
  bool stop_ = false;
};

TEST_F(MoLoraTrainingTest, LossFallsAndTheBaseStays) {
  const std::string base = Read("model.safetensors");
  ASSERT_TRUE(TrainMoLora(Options("short", 1), &stop_).ok());
  ASSERT_TRUE(TrainMoLora(Options("long", 80), &stop_).ok());
  EXPECT_GT(LossOf("short"), 5);
  EXPECT_LT(LossOf("long"), 2.5);
  EXPECT_TRUE(Read("model.safetensors") == base);
}

TEST_F(MoLoraTrainingTest, BFloat16LearnsToo) {
  MoLoraTrainingOptions options = Options("bfloat16", 80);
  options.use_bfloat16 = true;  // without the processor's support this is float32
  ASSERT_TRUE(TrainMoLora(options, &stop_).ok());
  EXPECT_LT(LossOf("bfloat16"), 2.5);
}

TEST_F(MoLoraTrainingTest, LearnsFromQuestions) {
  std::ofstream file(folder_.File("questions.jsonl"));
  for (int i = 0; i < 12; ++i) {
    file << R"({"question": "ran )" << i
         << R"( home", "choices": ["The hen", "The fox"], "answer_index": 1})"
         << "\n";
  }
  file.close();
  const auto accuracy_after = [this](int64_t max_steps) {
    MoLoraTrainingOptions options = Options(absl::StrCat("questions", max_steps), max_steps);
    options.text = {};
    options.choices = {folder_.File("questions.jsonl")};
    options.window = 48;
    EXPECT_TRUE(TrainMoLora(options, &stop_).ok());
    return EvaluateFolder(absl::StrCat("questions", max_steps), "questions.jsonl", &EvaluateChoices,
                          48);
  };
  const Evaluation before = accuracy_after(1);
  const Evaluation after = accuracy_after(60);
  EXPECT_LT(after.loss, before.loss / 2);
  EXPECT_EQ(after.accuracy, 1);
}

TEST_F(MoLoraTrainingTest, ResumedRunEqualsOneThatNeverStopped) {
  const auto options = [this](const std::string& out, int64_t max_steps, bool resume) {
    MoLoraTrainingOptions made = Options(out, max_steps);
    made.trainer.warmup = 0;
    made.trainer.min_learning_rate_ratio = 1;
    made.trainer.alpha = {0.01, 0.01};
    made.resume = resume;
    return made;
  };
  ASSERT_TRUE(TrainMoLora(options("whole", 6, false), &stop_).ok());
  ASSERT_TRUE(TrainMoLora(options("parts", 2, false), &stop_).ok());
  EXPECT_FALSE(Read("parts/adapter_model.safetensors") == Read("whole/adapter_model.safetensors"));
  ASSERT_TRUE(TrainMoLora(options("parts", 6, true), &stop_).ok());
  EXPECT_TRUE(Read("parts/adapter_model.safetensors") == Read("whole/adapter_model.safetensors"));
  EXPECT_TRUE(Read("parts/training-6.safetensors") == Read("whole/training-6.safetensors"));
  MoLoraTrainingOptions other = options("parts", 8, true);
  other.molora.alpha = 4;
  EXPECT_THAT(std::string(TrainMoLora(other, &stop_).message()), HasSubstr("lora_alpha"));
}

TEST_F(MoLoraTrainingTest, ErrorsNameWhatIsWrong) {
  const auto message = [this](const std::function<void(MoLoraTrainingOptions*)>& change) {
    MoLoraTrainingOptions options = Options("x", 1);
    change(&options);
    return std::string(TrainMoLora(options, &stop_).message());
  };
  using Options = MoLoraTrainingOptions;
  EXPECT_THAT(message([](Options* o) { o->trainer.max_steps = 0; }), HasSubstr("max_steps"));
  EXPECT_THAT(message([](Options* o) { o->molora.num_experts = 0; }), HasSubstr("num_experts"));
  EXPECT_THAT(message([](Options* o) { o->molora.experts_per_token = 8; }),
              HasSubstr("experts_per_token is 8, expected 1 to 7"));
  EXPECT_THAT(message([](Options* o) { o->molora.alpha = -1; }), HasSubstr("lora_alpha"));
  EXPECT_THAT(message([](Options* o) { o->model_dir += "/none"; }), HasSubstr("config.json"));
  EXPECT_THAT(message([](Options* o) { o->text = {"none.txt"}; }), HasSubstr("none.txt"));
  EXPECT_THAT(message([](Options* o) { o->text.clear(); }), HasSubstr("one of text and choices"));
  EXPECT_THAT(message([](Options* o) { o->trainer.out_dir = o->model_dir; }),
              HasSubstr("own folder"));
  EXPECT_THAT(message([](Options* o) { o->resume = true; }), HasSubstr("adapter_config.json"));
}

}  // namespace
}  // namespace adamoe
