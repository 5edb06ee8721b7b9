// The whole block behind the router: picks, experts, combination, counts.
#include <cmath>
#include <random>

#include "server/kernels/cuda/elementwise.h"
#include "server/kernels/cuda/experts.h"
#include "server/kernels/cuda/router.h"
#include "tests/fakes/reference_ops.h"
#include "tests/gpu/kernels/check_values.h"
#include "tests/gpu/kernels/checks.h"
#include "tests/gpu/kernels/device_memory.h"

namespace adamoe {
namespace {

struct Shape {
  int32_t n, m, k, hidden, intermediate, tokens;
};

using RunExperts = cudaError_t (*)(const cuda::ExpertsArgs&, const cuda::DeviceRouting&);

// Router logits: expert 1 is never picked, every fifth token picks nulls only.
std::vector<float> Logits(const Shape& s) {
  std::vector<float> logits = RandomFloats(int64_t{s.tokens} * (s.n + s.m), s.tokens);
  for (int32_t t = 0; t < s.tokens; ++t) {
    float* row = &logits[int64_t{t} * (s.n + s.m)];
    if (s.n > 1) row[1] = -50.0f;
    for (int32_t i = s.n; t % 5 == 2 && s.m >= s.k && i < s.n + s.m; ++i) row[i] += 100.0f;
  }
  return logits;
}

class Layer {
 public:
  explicit Layer(const Shape& s)
      : shape_(s),
        w1_(RandomBf16(size(), 21, 2.0f / std::sqrt(static_cast<float>(s.hidden)))),
        w3_(RandomBf16(size(), 22, 2.0f / std::sqrt(static_cast<float>(s.hidden)))),
        w2_(RandomBf16(size(), 23, 2.0f / std::sqrt(static_cast<float>(s.intermediate)))) {}

  int64_t size() const { return int64_t{shape_.n} * shape_.hidden * shape_.intermediate; }
  const std::vector<uint16_t>& w1() const { return w1_; }
  const std::vector<uint16_t>& w3() const { return w3_; }
  const std::vector<uint16_t>& w2() const { return w2_; }

  std::vector<ExpertWeights> Weights() const {
    std::vector<ExpertWeights> weights;
    const int64_t step = size() / shape_.n;
    for (int32_t e = 0; e < shape_.n; ++e) {
      const auto matrix = [&](const auto& all, int64_t rows, int64_t cols) {
        return Matrix{all.data() + e * step, DType::kBFloat16, rows, cols};
      };
      weights.push_back({matrix(w1_, shape_.intermediate, shape_.hidden),
                         matrix(w2_, shape_.hidden, shape_.intermediate),
                         matrix(w3_, shape_.intermediate, shape_.hidden)});
    }
    return weights;
  }

 private:
  const Shape shape_;
  const std::vector<uint16_t> w1_, w3_, w2_;
};

void CheckShape(const Shape& s, RunExperts run) {
  const std::string what = "experts, hidden " + std::to_string(s.hidden) + " intermediate " +
                           std::to_string(s.intermediate) + " tokens " + std::to_string(s.tokens) +
                           " n " + std::to_string(s.n);
  constexpr int32_t kLayers = 3;
  constexpr int32_t kLayer = 2;
  const Layer layer(s);
  const auto logits = Logits(s);
  const auto x = RandomBf16(int64_t{s.tokens} * s.hidden, 31);
  const auto residual = RandomFloats(int64_t{s.tokens} * s.hidden, 32);
  const int64_t max_rows = int64_t{s.tokens} * std::min(s.k, s.n);

  const DeviceArray<uint16_t> w1(layer.w1()), w3(layer.w3()), w2(layer.w2()), device_x(x);
  const DeviceArray<float> device_logits(logits), device_residual(residual);
  const DeviceArray<uint8_t> memory(static_cast<int64_t>(cuda::RoutingBytes(s.tokens, s.n, s.k)));
  const cuda::DeviceRouting routing = cuda::PlaceRouting(memory.get(), s.tokens, s.n, s.k);
  const DeviceArray<uint16_t> inner(max_rows * s.intermediate);
  const DeviceArray<float> rows_out(max_rows * s.hidden);
  const int64_t count_bytes = (int64_t{s.tokens} * kLayers + 3) / 4 * 4;
  const DeviceArray<uint8_t> executed(std::vector<uint8_t>(count_bytes, 0));
  const DeviceArray<uint32_t> expert_rows(std::vector<uint32_t>(s.n, 0));
  const DeviceArray<float> norm_weight(std::vector<float>(s.hidden, 1.0f));
  const DeviceArray<uint16_t> normed(int64_t{s.tokens} * s.hidden);

  ExpectLaunched(
      cuda::Route(
          {.logits = device_logits.get(), .num_null_experts = s.m, .experts_per_token = s.k},
          routing, nullptr),
      what);
  ExpectLaunched(run({.hidden = s.hidden,
                      .intermediate = s.intermediate,
                      .w1 = w1.get(),
                      .w3 = w3.get(),
                      .w2 = w2.get(),
                      .x = device_x.get(),
                      .inner = inner.get(),
                      .rows_out = rows_out.get(),
                      .executed = executed.get() + kLayer,
                      .slot_stride = kLayers,
                      .expert_rows = expert_rows.get()},
                     routing),
                 what);
  ExpectLaunched(cuda::CombineRmsNorm(routing, rows_out.get(),
                                      {.residual = device_residual.get(),
                                       .weight = norm_weight.get(),
                                       .eps = 1e-5f,
                                       .num_rows = s.tokens,
                                       .hidden = s.hidden,
                                       .normed = normed.get()},
                                      nullptr),
                 what);

  ReferenceOps reference(Precision::kBFloat16);
  Routing expected_routing;
  reference.Route(logits.data(), s.tokens, {s.n, s.m, s.k, nullptr, nullptr}, &expected_routing);
  std::vector<float> expected(x.size());
  std::vector<uint8_t> expected_executed(s.tokens, 0);
  reference.Experts(layer.Weights().data(), expected_routing, ToFloat(x).data(), s.tokens,
                    expected.data(), expected_executed.data());
  const std::vector<float> after = device_residual.ToHost();
  for (int32_t t = 0; t < s.tokens; ++t) {
    for (int32_t i = 0; i < s.hidden; ++i) {
      const int64_t at = int64_t{t} * s.hidden + i;
      if (expected_executed[t] == 0 && after[at] != residual[at]) {
        return Expect(false, what + ": a token without rows changed");
      }
      expected[at] += residual[at];
    }
  }
  ExpectNear(after, expected, 0.01, what);
  std::vector<float> expected_norm(x.size());
  reference.RmsNorm(expected.data(), std::vector<float>(s.hidden, 1.0f).data(), 1e-5f, s.tokens,
                    s.hidden, expected_norm.data());
  ExpectNear(ToFloat(normed.ToHost()), expected_norm, 0.04, what + ", then the norm");

  const auto counted = executed.ToHost();
  for (int32_t t = 0; t < s.tokens; ++t) {
    Expect(counted[t * kLayers + kLayer] == expected_executed[t] && counted[t * kLayers] == 0 &&
               counted[t * kLayers + 1] == 0,
           what + ": executed of token " + std::to_string(t));
  }
  std::vector<uint32_t> expected_rows;
  for (int32_t e = 0; e < s.n; ++e) {
    expected_rows.push_back(expected_routing.expert_begin[e + 1] -
                            expected_routing.expert_begin[e]);
  }
  ExpectEqual(expert_rows.ToHost(), expected_rows, what + ": rows of experts");

  const int64_t num_rows = expected_routing.expert_begin.back();
  const auto all_inner = inner.ToHost();
  const auto all_out = rows_out.ToHost();
  Expect(Untouched(all_inner.data() + num_rows * s.intermediate,
                   2 * (max_rows - num_rows) * s.intermediate) &&
             Untouched(all_out.data() + num_rows * s.hidden, 4 * (max_rows - num_rows) * s.hidden),
         what + ": rows past the end were written");
}

cudaError_t Decode(const cuda::ExpertsArgs& args, const cuda::DeviceRouting& routing) {
  return cuda::ExpertsDecode(args, routing, nullptr);
}
cudaError_t PrefillWgmma(const cuda::ExpertsArgs& args, const cuda::DeviceRouting& routing) {
  return cuda::ExpertsPrefill(args, routing, cuda::GemmInstruction::kWgmma, nullptr);
}
cudaError_t PrefillMmaSync(const cuda::ExpertsArgs& args, const cuda::DeviceRouting& routing) {
  return cuda::ExpertsPrefill(args, routing, cuda::GemmInstruction::kMmaSync, nullptr);
}

}  // namespace

void CheckDecodeExperts() {
  for (int32_t tokens : {1, 2, 8, 9, 17, 33, 70, 150}) {
    CheckShape({4, 2, 2, 32, 48, tokens}, Decode);
  }
  CheckShape({8, 8, 3, 72, 40, 11}, Decode);   // nothing is a multiple of a tile
  CheckShape({3, 3, 3, 8, 8, 3}, Decode);      // less than any tile
  CheckShape({1, 0, 1, 520, 264, 5}, Decode);  // several steps of inputs
}

void CheckPrefillExpertsWgmma() {
  CheckShape({4, 2, 2, 32, 48, 1}, PrefillWgmma);
  CheckShape({4, 2, 2, 72, 40, 40}, PrefillWgmma);
  CheckShape({3, 0, 2, 136, 272, 200}, PrefillWgmma);  // several tiles of rows and of outputs
  CheckShape({2, 2, 2, 456, 392, 7}, PrefillWgmma);    // more steps than stages
  CheckShape({3, 3, 3, 8, 8, 3}, PrefillWgmma);
}

void CheckPrefillExpertsMmaSync() {
  CheckShape({4, 2, 2, 72, 40, 40}, PrefillMmaSync);
  CheckShape({3, 0, 2, 72, 264, 140}, PrefillMmaSync);
  CheckShape({2, 2, 2, 392, 136, 7}, PrefillMmaSync);
}

// No tokens, no rows, no work: nothing is launched and no pointer is looked at.
void CheckNothingToDo() {
  const cuda::DeviceRouting routing = cuda::PlaceRouting(nullptr, 0, 8, 3);
  const cuda::ExpertsArgs args{.hidden = 16, .intermediate = 16};
  ExpectLaunched(cuda::Route({.num_null_experts = 8, .experts_per_token = 3}, routing, nullptr),
                 "no tokens");
  ExpectLaunched(Decode(args, routing), "no tokens");
  ExpectLaunched(PrefillWgmma(args, routing), "no tokens");
  ExpectLaunched(cuda::RouterLogits(nullptr, nullptr, 0, 8, 16, nullptr, nullptr), "no tokens");
  ExpectLaunched(cuda::Embed(nullptr, nullptr, 0, 8, nullptr, nullptr), "no tokens");
  ExpectLaunched(cuda::RmsNorm({.hidden = 8}, nullptr), "no rows");
  ExpectLaunched(cuda::CombineRmsNorm(routing, nullptr, {.hidden = 8}, nullptr), "no rows");
  ExpectLaunched(cuda::RopeAppendKv({.cache = {nullptr, nullptr, 16, 1, 64}}, nullptr),
                 "no tokens");
}

}  // namespace adamoe
