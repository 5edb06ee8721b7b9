// The fused experts against the same mathematics in single LibTorch operations.
#include "train/expert_mlp.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <vector>

#include "train/swiglu.h"

namespace adamoe {
namespace {

at::Tensor PlainExperts(const at::Tensor& x, const at::Tensor& w13, const at::Tensor& w2,
                        const std::vector<int64_t>& counts) {
  const std::vector<at::Tensor> inputs = x.split_with_sizes(counts);
  std::vector<at::Tensor> outputs;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto expert = static_cast<int64_t>(i);
    const std::vector<at::Tensor> h = at::linear(inputs[i], w13[expert]).chunk(2, -1);
    outputs.push_back(at::linear(at::silu(h[0]) * h[1], w2[expert]));
  }
  return at::cat(outputs);
}

struct Case {
  at::ScalarType dtype;
  double tolerance;  // of the largest value
};

void ExpectClose(const at::Tensor& got, const at::Tensor& expected, double tolerance) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  const double scale = expected.abs().max().item<double>();
  EXPECT_LE((got.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>(),
            tolerance * scale);
}

class ExpertMlpTest : public testing::TestWithParam<Case> {};

TEST_P(ExpertMlpTest, EqualsSingleOperationsForwardsAndBackwards) {
  const Case test = GetParam();
  // An expert without rows, one with a single row, and widths no vector register divides.
  const std::vector<int64_t> counts = {5, 0, 1, 33};
  const auto leaf = [&](at::IntArrayRef shape) {
    return at::randn(shape, at::kDouble).to(test.dtype).set_requires_grad(true);
  };
  const std::vector<at::Tensor> leaves = {leaf({39, 21}), leaf({4, 2 * 19, 21}), leaf({4, 21, 19})};
  std::vector<at::Tensor> exact;
  for (const at::Tensor& tensor : leaves) {
    exact.push_back(tensor.detach().to(at::kDouble).set_requires_grad(true));
  }
  const at::Tensor grad = at::randn({39, 21}, at::kDouble).to(test.dtype);
  const at::Tensor got = ExpertMlp(leaves[0], leaves[1], leaves[2], counts);
  const at::Tensor expected = PlainExperts(exact[0], exact[1], exact[2], counts);
  ExpectClose(got, expected, test.tolerance);
  const auto got_grads = torch::autograd::grad({got}, leaves, {grad});
  const auto expected_grads = torch::autograd::grad({expected}, exact, {grad.to(at::kDouble)});
  for (size_t i = 0; i < leaves.size(); ++i) {
    ExpectClose(got_grads[i], expected_grads[i], test.tolerance);
  }
  EXPECT_EQ(got_grads[1][1].abs().max().item<double>(), 0) << "the expert without rows";
}

INSTANTIATE_TEST_SUITE_P(Types, ExpertMlpTest,
                         testing::Values(Case{at::kDouble, 1e-12}, Case{at::kFloat, 2e-6},
                                         Case{at::kBFloat16, 2e-2}));

TEST(SwiGluTest, HoldsAtTheEndsOfTheRange) {
  const at::Tensor h13 = at::tensor({-1e4, -90.0, -20.0, -1e-3, 0.0, 20.0, 90.0, 1e4, 2.0, 2.0, 2.0,
                                     2.0, 2.0, 2.0, 2.0, 2.0},
                                    at::kFloat)
                             .view({1, 16});
  const at::Tensor out = SwiGlu(h13);
  const at::Tensor grad = SwiGluBackward(h13, at::ones({1, 8}));
  for (int64_t i = 0; i < 8; ++i) {
    const double x = h13[0][i].item<double>();
    const double s = 1 / (1 + std::exp(-x));
    EXPECT_NEAR(out[0][i].item<double>(), 2 * x * s, 1e-5 + 1e-6 * std::abs(x)) << x;
    EXPECT_NEAR(grad[0][i].item<double>(), 2 * s * (1 + x * (1 - s)), 1e-5) << x;
    EXPECT_NEAR(grad[0][8 + i].item<double>(), x * s, 1e-5 + 1e-6 * std::abs(x)) << x;
  }
}

}  // namespace
}  // namespace adamoe
