// The server's model against the reference: random models of odd shapes, the same
// log-probabilities, expert counts and greedy tokens, however the server's kernels compute them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "server/model/mixtral_model.h"
#include "tests/unit/model/model_runner.h"
#include "tests/unit/model/ops_under_test.h"
#include "tests/unit/train/tiny_model.h"
#include "train/mixtral_reference.h"
#include "train/model_folder.h"

namespace adamoe {
namespace {

constexpr double kTolerance = 1e-3;

struct Shape {
  std::string name;
  ModelConfig config;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

std::vector<Shape> Shapes() {
  const ModelConfig tiny = TinyConfig();
  std::vector<Shape> shapes = {
      {"tiny", tiny}, {"windowed", tiny}, {"plain", tiny}, {"manyNulls", tiny}, {"wide", tiny}};
  shapes[1].config.sliding_window = 5;
  shapes[1].config.tie_word_embeddings = true;
  shapes[2].config.num_null_experts = 0;
  shapes[2].config.experts_per_token = 2;
  shapes[3].config.num_null_experts = 11;
  shapes[3].config.experts_per_token = 2;
  shapes[3].config.num_kv_heads = 4;
  ModelConfig& wide = shapes[4].config;
  wide.hidden_size = 72;
  wide.intermediate_size = 49;
  wide.num_layers = 3;
  wide.num_heads = 6;
  wide.num_kv_heads = 3;
  wide.head_dim = 10;
  wide.num_experts = 7;
  wide.num_null_experts = 7;
  wide.experts_per_token = 5;
  wide.vocab_size = 131;
  wide.sliding_window = 11;
  wide.rope_theta = 500.0f;
  return shapes;
}

std::vector<double> LogProbabilities(const float* logits, size_t vocab) {
  const float largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (size_t i = 0; i < vocab; ++i) sum += std::exp(double{logits[i]} - largest);
  std::vector<double> out;
  for (size_t i = 0; i < vocab; ++i) out.push_back(logits[i] - largest - std::log(sum));
  return out;
}

using Param = std::tuple<Shape, OpsUnderTest>;

class OracleTest : public testing::TestWithParam<Param> {};

TEST_P(OracleTest, ServerAgreesWithTheReference) {
  const auto& [shape, ops] = GetParam();
  const ModelConfig& config = shape.config;
  const MixtralParameters parameters = LivelyParameters(config, 21);
  const TestFolder folder("oracle");
  ASSERT_TRUE(WriteModelFolder(folder.path(), config, parameters, at::kFloat).ok());
  auto weights = LoadMixtral({.model_dir = folder.path()});
  ASSERT_TRUE(weights.ok()) << weights.status();
  auto model = MixtralModel::Create(*std::move(weights), ops.make(),
                                    {.kv_cache_tokens = 256, .block_size = 4});
  ASSERT_TRUE(model.ok()) << model.status();

  std::mt19937 random(22);
  std::vector<int32_t> tokens(33);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % config.vocab_size);
  // Most of it as a prompt, the rest token by token.
  const std::vector<PositionAnswer> answers = RunAlone(
      model->get(), {tokens.begin(), tokens.begin() + 25}, {tokens.begin() + 25, tokens.end()});
  const std::vector<int64_t> ids(tokens.begin(), tokens.end());
  const ReferenceOutput expected =
      ReferenceForward(config, parameters, at::tensor(ids, at::kLong).unsqueeze(0));
  const at::Tensor logits = expected.logits.contiguous();
  const at::Tensor counts = TrueExpertCounts(config, expected.routing).contiguous();

  ASSERT_EQ(answers.size(), tokens.size());
  for (size_t t = 0; t < tokens.size(); ++t) {
    const size_t vocab = static_cast<size_t>(config.vocab_size);
    const float* reference = logits.const_data_ptr<float>() + t * vocab;
    ASSERT_EQ(answers[t].logits.size(), vocab);
    const std::vector<double> want = LogProbabilities(reference, vocab);
    const std::vector<double> got = LogProbabilities(answers[t].logits.data(), vocab);
    for (size_t i = 0; i < vocab; ++i) ASSERT_NEAR(got[i], want[i], kTolerance) << t << " " << i;
    EXPECT_EQ(std::max_element(got.begin(), got.end()) - got.begin(),
              std::max_element(want.begin(), want.end()) - want.begin())
        << "greedy token after position " << t;
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      const int64_t want_count =
          counts.const_data_ptr<int64_t>()[t * static_cast<size_t>(config.num_layers) + layer];
      EXPECT_EQ(answers[t].executed[layer], want_count) << "position " << t << " layer " << layer;
      EXPECT_EQ(answers[t].null_slots[layer], config.experts_per_token - want_count);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ShapesAndOps, OracleTest,
                         testing::Combine(testing::ValuesIn(Shapes()),
                                          testing::ValuesIn(OpsOf(Precision::kFloat32))),
                         [](const testing::TestParamInfo<Param>& info) {
                           return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
                         });

}  // namespace
}  // namespace adamoe
