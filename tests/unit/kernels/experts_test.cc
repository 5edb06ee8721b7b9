// The experts of a layer over routed batches.
#include <random>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/reference_ops.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace adamoe {
namespace {

using testing::Each;

// A layer of random experts.
class Layer {
 public:
  Layer(int32_t num_experts, int64_t hidden, int64_t intermediate, DType w13, DType w2) {
    for (int32_t e = 0; e < num_experts; ++e) {
      const auto add = [&](int64_t rows, int64_t cols, DType dtype, uint32_t seed) {
        matrices_.push_back(GuardedMatrix::Random(rows, cols, dtype, 10 * e + seed));
        return *matrices_.back();
      };
      experts_.push_back({add(intermediate, hidden, w13, 1), add(hidden, intermediate, w2, 2),
                          add(intermediate, hidden, w13, 3)});
    }
  }
  const ExpertWeights* experts() const { return experts_.data(); }

 private:
  std::vector<GuardedMatrix> matrices_;
  std::vector<ExpertWeights> experts_;
};

// Every token goes to 0, 1, 2 or more experts, at random; some experts get nothing.
Routing RandomRouting(int32_t num_tokens, int32_t num_experts, uint32_t seed) {
  std::mt19937 random(seed);
  Routing routing;
  routing.expert_begin.push_back(0);
  for (int32_t e = 0; e < num_experts; ++e) {
    for (int32_t t = 0; t < num_tokens; ++t) {
      if (e % 4 == 2 || random() % 3 != 0) continue;
      routing.row_token.push_back(t);
      routing.row_weight.push_back(static_cast<float>(random() % 100 + 1) / 100);
    }
    routing.expert_begin.push_back(static_cast<int32_t>(routing.row_token.size()));
  }
  return routing;
}

// The rows of one token only, as the token would be routed alone.
Routing OnlyToken(const Routing& routing, int32_t token) {
  Routing out;
  out.expert_begin.push_back(0);
  for (size_t e = 0; e + 1 < routing.expert_begin.size(); ++e) {
    for (int32_t r = routing.expert_begin[e]; r < routing.expert_begin[e + 1]; ++r) {
      if (routing.row_token[r] != token) continue;
      out.row_token.push_back(0);
      out.row_weight.push_back(routing.row_weight[r]);
    }
    out.expert_begin.push_back(static_cast<int32_t>(out.row_token.size()));
  }
  return out;
}

struct Result {
  std::vector<float> out;
  std::vector<uint8_t> executed;
};

class ExpertsTest : public DeviceTest {
 protected:
  static Result Run(Ops* ops, const Layer& layer, const Routing& routing, const float* x,
                    int32_t num_tokens, int64_t hidden) {
    GuardedTensor out = GuardedTensor::Poisoned(num_tokens * hidden);
    std::vector<uint8_t> executed(num_tokens, 0);
    ops->Experts(layer.experts(), routing, x, num_tokens, out.floats(), executed.data());
    return {out.ToVector(), executed};
  }

  void Check(const Layer& layer, int32_t num_experts, int32_t num_tokens, int64_t hidden,
             double tolerance) {
    const GuardedTensor x = GuardedTensor::Random(num_tokens * hidden, DType::kFloat32, 99);
    const Routing routing = RandomRouting(num_tokens, num_experts, num_tokens);
    ReferenceOps reference(GetParam().precision);
    const Result expected = Run(&reference, layer, routing, x.floats(), num_tokens, hidden);
    const Result actual = Run(ops_.operator->(), layer, routing, x.floats(), num_tokens, hidden);
    EXPECT_LE(LargestError(actual.out, expected.out), tolerance) << num_tokens << " tokens";
    EXPECT_EQ(actual.executed, expected.executed) << num_tokens << " tokens";
  }

  // Inner activations that differ in the last bit of a float32 may round to neighbouring bfloat16s.
  // Those of packed weights are 16-bit integers.
  double Tolerance(DType w13, DType w2) const {
    if (GetParam().precision != Precision::kFloat32) return 0.25;
    return IsPacked(w13) || IsPacked(w2) ? 1e-2 : 3e-4;
  }

  TestOps ops_{GetParam()};
};

TEST_P(ExpertsTest, AgreeOnEveryNumberOfTokensAndType) {
  for (const auto& [w13, w2] : {std::pair{DType::kBFloat16, DType::kBFloat16},
                                {DType::kFloat16, DType::kFloat32},
                                {DType::kFloat32, DType::kBFloat16},
                                {DType::kInt8, DType::kInt8},
                                {DType::kInt4, DType::kInt4},
                                {DType::kBFloat16, DType::kInt8},
                                {DType::kInt4, DType::kFloat16}}) {
    const Layer layer(5, 37, 50, w13, w2);
    for (int32_t tokens = 0; tokens <= 33; ++tokens)
      Check(layer, 5, tokens, 37, Tolerance(w13, w2));
  }
}

TEST_P(ExpertsTest, AgreeWhereWorkIsSharedByThreads) {
  for (DType dtype : {DType::kBFloat16, DType::kInt8, DType::kInt4}) {
    const Layer layer(3, 130, 514, dtype, dtype);
    for (int32_t tokens : {1, 2, 40, 150})
      Check(layer, 3, tokens, 130, 4 * Tolerance(dtype, dtype));
  }
}

TEST_P(ExpertsTest, AddExactlyNothingForATokenWithoutRows) {
  const Layer layer(2, 20, 24, DType::kBFloat16, DType::kBFloat16);
  const GuardedTensor x = GuardedTensor::Random(3 * 20, DType::kFloat32, 1);
  const Routing routing{{0, 1, 1}, {1}, {1.0f}, {}, {}};
  const Result result = Run(ops_.operator->(), layer, routing, x.floats(), 3, 20);
  EXPECT_THAT(std::vector<float>(result.out.begin(), result.out.begin() + 20), Each(0.0f));
  EXPECT_THAT(std::vector<float>(result.out.begin() + 40, result.out.end()), Each(0.0f));
  EXPECT_EQ(result.executed, (std::vector<uint8_t>{0, 1, 0}));
}

// The weights cannot be read at all: nothing may touch them. Nor the inputs.
TEST_P(ExpertsTest, OfAnAllNullBatchReadNoWeights) {
  const ExpertWeights unreadable{{reinterpret_cast<void*>(8), DType::kBFloat16, 24, 20},
                                 {reinterpret_cast<void*>(8), DType::kBFloat16, 20, 24},
                                 {reinterpret_cast<void*>(8), DType::kBFloat16, 24, 20}};
  const Routing routing{{0, 0}, {}, {}, {2, 2}, {0, 0}};
  std::vector<float> out(40, 9.0f);
  std::vector<uint8_t> executed(2, 7);
  ops_->Experts(&unreadable, routing, reinterpret_cast<const float*>(8), 2, out.data(),
                executed.data());
  EXPECT_THAT(out, Each(0.0f));
  EXPECT_THAT(executed, Each(7));
}

TEST_P(ExpertsTest, WithoutRowsAreNotRead) {
  Layer layer(3, 20, 24, DType::kBFloat16, DType::kBFloat16);
  std::vector<ExpertWeights> experts(layer.experts(), layer.experts() + 3);
  for (Matrix* w : {&experts[1].w1, &experts[1].w2, &experts[1].w3}) {
    w->data = reinterpret_cast<void*>(8);
  }
  const GuardedTensor x = GuardedTensor::Random(2 * 20, DType::kFloat32, 1);
  const Routing routing{{0, 1, 1, 3}, {1, 0, 1}, {1.0f, 1.0f, 0.5f}, {}, {}};
  std::vector<float> out(40);
  std::vector<uint8_t> executed(2, 0);
  ops_->Experts(experts.data(), routing, x.floats(), 2, out.data(), executed.data());
  EXPECT_EQ(executed, (std::vector<uint8_t>{1, 2}));
}

TEST_P(ExpertsTest, CountOnTopOfWhatWasCounted) {
  const Layer layer(1, 20, 24, DType::kBFloat16, DType::kBFloat16);
  const GuardedTensor x = GuardedTensor::Random(20, DType::kFloat32, 1);
  std::vector<float> out(20);
  std::vector<uint8_t> executed = {5};
  ops_->Experts(layer.experts(), {{0, 1}, {0}, {1.0f}, {}, {}}, x.floats(), 1, out.data(),
                executed.data());
  EXPECT_EQ(executed[0], 6);
}

TEST_P(ExpertsTest, ReadNoScratchTheyHaveNotWritten) {
  for (DType dtype : {DType::kBFloat16, DType::kInt8, DType::kInt4}) {
    const Layer layer(3, 21, 45, dtype, dtype);
    const GuardedTensor x = GuardedTensor::Random(40 * 21, DType::kFloat32, 1);
    const Routing routing = RandomRouting(40, 3, 2);
    const Result expected = Run(ops_.operator->(), layer, routing, x.floats(), 40, 21);
    TestOps ops(GetParam(), 1);
    PoisonScratch();
    EXPECT_EQ(Run(ops.operator->(), layer, routing, x.floats(), 40, 21).out, expected.out);
  }
}

// What is promised for float32; most kernels give it in bfloat16 too.
TEST_P(ExpertsTest, AreTheSameAloneAndInABatchOnAnyNumberOfThreads) {
  const int64_t hidden = 131;
  const GuardedTensor x = GuardedTensor::Random(60 * hidden, DType::kFloat32, 5);
  const Routing routing = RandomRouting(60, 6, 3);
  for (DType dtype : {DType::kBFloat16, DType::kInt8, DType::kInt4}) {
    const Layer layer(6, hidden, 300, dtype, dtype);
    const Result batch = Run(ops_.operator->(), layer, routing, x.floats(), 60, hidden);
    for (int threads : {1, 3}) {
      TestOps ops(GetParam(), threads);
      EXPECT_EQ(Run(ops.operator->(), layer, routing, x.floats(), 60, hidden).out, batch.out);
      for (int32_t t = 0; t < 60; t += 7) {
        const Result alone =
            Run(ops.operator->(), layer, OnlyToken(routing, t), x.floats() + t * hidden, 1, hidden);
        const auto row = batch.out.begin() + t * hidden;
        const std::vector<float> expected(row, row + hidden);
        if (IgnoresBatch(GetParam())) {
          EXPECT_EQ(alone.out, expected) << "token " << t;
        } else {
          EXPECT_LE(LargestError(alone.out, expected), Tolerance(dtype, dtype)) << "token " << t;
        }
        EXPECT_EQ(alone.executed[0], batch.executed[t]);
      }
    }
  }
}

ADAMOE_ON_ALL_DEVICES(ExpertsTest);

}  // namespace
}  // namespace adamoe
