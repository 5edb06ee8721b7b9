// Single-pass operations against the same mathematics in single LibTorch operations, in float64.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "train/expert_rows.h"
#include "train/rms_norm.h"
#include "train/rotated_heads.h"

namespace adamoe {
namespace {

using Tensors = std::vector<at::Tensor>;
using Operation = std::function<Tensors(const Tensors&)>;

struct Case {
  at::ScalarType dtype;
  double tolerance;  // of the largest value, and at least of 1
};
constexpr Case kDouble = {at::kDouble, 1e-12};
constexpr Case kFloat = {at::kFloat, 2e-6};
constexpr Case kBFloat16 = {at::kBFloat16, 2e-2};

at::Tensor Exact(const at::Tensor& tensor) { return tensor.detach().to(at::kDouble); }

// Results are sums of products of normal numbers: what rounds is of their size, even where they
// cancel and leave less.
void ExpectClose(const at::Tensor& got, const at::Tensor& expected, double tolerance) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  const double largest = expected.abs().max().item<double>();
  ASSERT_GT(largest, 0);
  const double scale = std::max(1.0, largest);
  EXPECT_LE((Exact(got) - expected).abs().max().item<double>(), tolerance * scale);
}

// Results and gradients of `fused` on `inputs`, which may be of any type, equal those of `plain` on
// the same numbers in float64.
void ExpectEqualBothWays(const Operation& fused, const Operation& plain, const Tensors& inputs,
                         double tolerance) {
  Tensors leaves, exact_leaves;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.detach().clone().set_requires_grad(true));
    exact_leaves.push_back(Exact(input).set_requires_grad(true));
  }
  const Tensors got = fused(leaves);
  const Tensors expected = plain(exact_leaves);
  ASSERT_EQ(got.size(), expected.size());
  Tensors grads, exact_grads;
  for (size_t i = 0; i < got.size(); ++i) {
    ExpectClose(got[i], expected[i], tolerance);
    grads.push_back(at::randn(got[i].sizes(), at::kDouble).to(got[i].scalar_type()));
    exact_grads.push_back(Exact(grads[i]));
  }
  const Tensors got_grads = torch::autograd::grad(got, leaves, grads);
  const Tensors expected_grads = torch::autograd::grad(expected, exact_leaves, exact_grads);
  for (size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_EQ(got_grads[i].scalar_type(), leaves[i].scalar_type());
    ExpectClose(got_grads[i], expected_grads[i], tolerance);
  }
}

at::Tensor Random(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::randn(shape, at::kDouble).to(dtype);
}

class RmsNormTest : public testing::TestWithParam<Case> {};

TEST_P(RmsNormTest, EqualsSingleOperationsForwardsAndBackwards) {
  const Case test = GetParam();
  const double epsilon = 0.1;  // large enough to be missed
  const Operation fused = [&](const Tensors& in) {
    return Tensors{RmsNorm(in[0], in[1], epsilon)};
  };
  const Operation plain = [&](const Tensors& in) {
    return Tensors{in[0] * at::rsqrt(in[0].square().mean(-1, true) + epsilon) * in[1]};
  };
  for (const int64_t hidden : {1, 21, 64}) {  // and widths no vector register divides
    SCOPED_TRACE(hidden);
    ExpectEqualBothWays(fused, plain,
                        {Random({3, 13, hidden}, test.dtype), Random({hidden}, test.dtype)},
                        test.tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RmsNormTest, testing::Values(kDouble, kFloat));

class RotatedHeadsTest : public testing::TestWithParam<Case> {};

TEST_P(RotatedHeadsTest, EqualsSingleOperationsForwardsAndBackwards) {
  const Case test = GetParam();
  constexpr int64_t kBatch = 2, kLength = 7, kHeadDim = 6, kKvHeads = 2;
  const at::Tensor angles = at::rand({kLength, kHeadDim / 2}, at::kDouble) * 6;
  const at::Tensor cos = angles.cos().to(at::kFloat);
  const at::Tensor sin = angles.sin().to(at::kFloat);
  for (const int64_t group : {1, 3}) {
    SCOPED_TRACE(group);
    const int64_t heads = group * kKvHeads;
    const Operation fused = [&](const Tensors& in) {
      const AttentionHeads out = RotatedHeads(in[0], heads, kKvHeads, cos, sin);
      return Tensors{out.q, out.k, out.v};
    };
    const Operation plain = [&](const Tensors& in) {
      const auto parts = in[0]
                             .view({kBatch, kLength, -1, kHeadDim})
                             .transpose(1, 2)
                             .split_with_sizes({heads, kKvHeads, kKvHeads}, 1);
      const auto rotate = [&](const at::Tensor& x) {
        const Tensors half = x.chunk(2, -1);
        const at::Tensor c = Exact(cos), s = Exact(sin);
        return at::cat({half[0] * c - half[1] * s, half[1] * c + half[0] * s}, -1);
      };
      return Tensors{rotate(parts[0]), rotate(parts[1]).repeat_interleave(group, 1),
                     parts[2].repeat_interleave(group, 1)};
    };
    const at::Tensor qkv = Random({kBatch, kLength, (heads + 2 * kKvHeads) * kHeadDim}, test.dtype);
    ExpectEqualBothWays(fused, plain, {qkv}, test.tolerance);
    const at::ScalarType out = test.dtype == at::kDouble ? at::kDouble : at::kFloat;
    EXPECT_EQ(RotatedHeads(qkv, heads, kKvHeads, cos, sin).k.scalar_type(), out);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RotatedHeadsTest, testing::Values(kDouble, kFloat, kBFloat16));

class RowSumsTest : public testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kExperts = 3, kTokens = 5, kHidden = 21;
  // Picks 3 and above are nulls; token 3 has no true one, and expert 1 no rows.
  const at::Tensor picks_ =
      at::tensor({0, 2, 3, 2, 4, 3, 0, 3, 5, 3, 4, 5, 2, 0, 3}, at::kLong).view({kTokens, 3});
  const ExpertRows rows_ = ArrangeRows(picks_, kExperts, /*multiple=*/4);

  // [tokens, hidden] from [num_rows, hidden]: each pick's row on its own, filling rows nowhere.
  at::Tensor PlainSum(const at::Tensor& y, const at::Tensor& weights) const {
    at::Tensor sum = at::zeros({kTokens, kHidden}, at::kDouble);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t p = 0; p < 3; ++p) {
        const int64_t row = rows_.row_of_pick[t][p].item<int64_t>();
        if (row == rows_.num_rows) continue;
        at::Tensor mask = at::zeros({kTokens, 1}, at::kDouble);
        mask[t] = 1;
        sum = sum + mask * (y[row] * weights[t][p]).view({1, kHidden});
      }
    }
    return sum;
  }
};

TEST_P(RowSumsTest, WeightedSumEqualsSingleOperationsForwardsAndBackwards) {
  const Case test = GetParam();
  ASSERT_GT(rows_.num_rows, 6) << "without filling rows this tests less than it should";
  const at::ScalarType weight_type = test.dtype == at::kDouble ? at::kDouble : at::kFloat;
  ExpectEqualBothWays(
      [&](const Tensors& in) { return Tensors{SumWeightedRows(in[0], in[1], rows_)}; },
      [&](const Tensors& in) { return Tensors{PlainSum(in[0], in[1])}; },
      {Random({rows_.num_rows, kHidden}, test.dtype), Random({kTokens, 3}, weight_type)},
      test.tolerance);
}

TEST_P(RowSumsTest, SumEqualsSingleOperations) {
  const Case test = GetParam();
  const at::Tensor y = Random({rows_.num_rows, kHidden}, test.dtype);
  const at::Tensor sum = SumRows(y, rows_);
  ExpectClose(sum, PlainSum(Exact(y), at::ones({kTokens, 3}, at::kDouble)), test.tolerance);
  EXPECT_EQ(sum[3].abs().max().item<double>(), 0) << "the token without true picks";
}

INSTANTIATE_TEST_SUITE_P(Types, RowSumsTest, testing::Values(kDouble, kFloat, kBFloat16));

}  // namespace
}  // namespace adamoe
