#include "server/executor/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace adamoe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kDraws = 20000;

SamplingParams Params(float temperature = 1.0f) {
  SamplingParams params;
  params.temperature = temperature;
  params.seed = 12345;
  return params;
}

int32_t SampleOnce(const SamplingParams& params, const std::vector<float>& logits,
                   const std::vector<int32_t>& prompt = {},
                   const std::vector<int32_t>& output = {}) {
  Sampler sampler(&params, 0, prompt);
  for (const int32_t token : output) sampler.Append(token);
  Sampler::Scratch scratch;
  const auto token = sampler.Sample(logits, {}, &scratch);
  EXPECT_TRUE(token.ok()) << token.status();
  return token.value_or(-1);
}

// How often each token is drawn, out of kDraws, over as many output positions of one request.
std::vector<int> Frequencies(const SamplingParams& params, const std::vector<float>& logits) {
  Sampler sampler(&params, 0, {});
  Sampler::Scratch scratch;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    const auto token = sampler.Sample(logits, {}, &scratch);
    EXPECT_TRUE(token.ok()) << token.status();
    ++counts[token.value_or(0)];
    sampler.Append(0);
  }
  return counts;
}

// Pearson's statistic against the expected probabilities; tokens of probability 0 must not have
// been drawn. With d degrees of freedom, above d + 4 * sqrt(2 d) + 8 is out of the question for a
// fair sampler.
void ExpectDistribution(const std::vector<int>& counts, const std::vector<double>& probabilities) {
  double statistic = 0;
  int degrees = -1;
  for (size_t id = 0; id < counts.size(); ++id) {
    const double expected = probabilities[id] * kDraws;
    if (expected == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id;
      continue;
    }
    statistic += (counts[id] - expected) * (counts[id] - expected) / expected;
    ++degrees;
  }
  EXPECT_LT(statistic, degrees + 4 * std::sqrt(2.0 * std::max(degrees, 0)) + 8);
}

std::vector<double> Softmax(const std::vector<float>& logits, double temperature,
                            const std::set<size_t>& kept) {
  std::vector<double> probabilities(logits.size());
  double total = 0;
  for (const size_t id : kept) total += probabilities[id] = std::exp(logits[id] / temperature);
  for (double& p : probabilities) p /= total;
  return probabilities;
}

std::set<size_t> All(size_t count) {
  std::set<size_t> all;
  for (size_t id = 0; id < count; ++id) all.insert(id);
  return all;
}

const std::vector<float> kLogits = {1.0f, -0.5f, 2.5f, 0.0f, 2.0f, 1.5f, -2.0f, 0.7f};

TEST(SamplerTest, TemperatureZeroTakesTheLowestOfTheLikeliest) {
  EXPECT_EQ(SampleOnce(Params(0), {0.0f, 3.0f, 3.0f}), 1);
}

TEST(SamplerTest, DrawsFromTheSoftmaxAtAnyTemperature) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    ExpectDistribution(Frequencies(Params(temperature), kLogits),
                       Softmax(kLogits, temperature, All(kLogits.size())));
  }
}

TEST(SamplerTest, TopKKeepsTheKLikeliest) {
  SamplingParams params = Params();
  params.top_k = 3;
  ExpectDistribution(Frequencies(params, kLogits), Softmax(kLogits, 1, {2, 4, 5}));
  params.top_k = 1;
  EXPECT_EQ(Frequencies(params, kLogits)[2], kDraws);
  params.top_k = 1000;
  ExpectDistribution(Frequencies(params, kLogits), Softmax(kLogits, 1, All(kLogits.size())));
}

TEST(SamplerTest, TopKBreaksTiesByTheLowerId) {
  SamplingParams params = Params();
  params.top_k = 2;
  const std::vector<float> logits = {1.0f, 2.0f, 1.0f, 1.0f};
  ExpectDistribution(Frequencies(params, logits), Softmax(logits, 1, {0, 1}));
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachP) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                     std::log(0.05f)};
  SamplingParams params = Params();
  const struct {
    float top_p;
    std::set<size_t> kept;
  } kCases[] = {
      {0.4f, {0}}, {0.6f, {0, 1}}, {0.9f, {0, 1, 2}}, {0.97f, {0, 1, 2, 3}}, {1e-6f, {0}}};
  for (const auto& [top_p, kept] : kCases) {
    params.top_p = top_p;
    ExpectDistribution(Frequencies(params, logits), Softmax(logits, 1, kept));
  }
}

TEST(SamplerTest, TopPComesAfterTemperatureAndTopK) {
  SamplingParams params = Params(2.0f);
  params.top_k = 4;
  // Of 2.5, 2, 1.5, 1 at temperature 2 the first three hold 0.82 of the mass, the first two 0.60.
  params.top_p = 0.7f;
  ExpectDistribution(Frequencies(params, kLogits), Softmax(kLogits, 2, {2, 4, 5}));
}

TEST(SamplerTest, MinPKeepsThoseNearTheLikeliest) {
  SamplingParams params = Params();
  params.min_p = 0.3f;  // exp(-1.2): down to a logit of 1.3
  ExpectDistribution(Frequencies(params, kLogits), Softmax(kLogits, 1, {2, 4, 5}));
  params.min_p = 1.0f;
  EXPECT_EQ(Frequencies(params, kLogits)[2], kDraws);
}

TEST(SamplerTest, TopPOverALargeFlatVocabularyKeepsTheRightNumber) {
  std::vector<float> logits(1000);
  std::mt19937 random(4);
  for (float& logit : logits) logit = static_cast<float>(random() % 1000) * 1e-3f;
  std::vector<size_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  double total = 0;
  for (const float logit : logits) total += std::exp(logit);
  std::set<size_t> kept;
  double held = 0;
  for (size_t i = 0; held < 0.5 * total; ++i) {
    held += std::exp(logits[order[i]]);
    kept.insert(order[i]);
  }
  SamplingParams params = Params();
  params.top_p = 0.5f;
  const std::vector<int> counts = Frequencies(params, logits);
  int outside = 0;
  for (size_t id = 0; id < counts.size(); ++id) outside += kept.count(id) > 0 ? 0 : counts[id];
  EXPECT_LE(outside, 30) << "but for the boundary itself, where rounding decides";
  const auto used = std::count_if(counts.begin(), counts.end(), [](int c) { return c > 0; });
  EXPECT_GT(used, 0.98 * kept.size());
}

TEST(SamplerTest, AddsTheLogitBias) {
  SamplingParams params = Params(0);
  params.logit_bias = {{3, 5.0f}, {2, -100.0f}};
  EXPECT_EQ(SampleOnce(params, kLogits), 3);
  params = Params();
  params.logit_bias = {{0, 1.0f}};
  std::vector<float> biased = kLogits;
  biased[0] += 1.0f;
  ExpectDistribution(Frequencies(params, kLogits), Softmax(biased, 1, All(biased.size())));
}

TEST(SamplerTest, BarsStopTokensUntilTheMinimumIsOut) {
  SamplingParams params = Params(0);
  params.stop_token_ids = {2, 4};
  params.min_tokens = 2;
  EXPECT_EQ(SampleOnce(params, kLogits), 5);
  EXPECT_EQ(SampleOnce(params, kLogits, {}, {5}), 5);
  EXPECT_EQ(SampleOnce(params, kLogits, {}, {5, 5}), 2);
  params.logit_bias = {{2, 100.0f}};
  EXPECT_EQ(SampleOnce(params, kLogits), 5) << "a bias does not lift the bar";
  params.repetition_penalty = 1.5f;
  EXPECT_EQ(SampleOnce(params, kLogits, {2}), 5) << "nor a penalty";
}

TEST(SamplerTest, RepetitionPenaltyIsOverPromptAndOutput) {
  SamplingParams params = Params(0);
  params.repetition_penalty = 2.0f;
  const std::vector<float> logits = {4.0f, 3.0f, 2.5f, -1.0f};
  EXPECT_EQ(SampleOnce(params, logits), 0);
  EXPECT_EQ(SampleOnce(params, logits, {0}), 1);
  EXPECT_EQ(SampleOnce(params, logits, {0}, {1, 1}), 2) << "once, however often it occurred";
  EXPECT_EQ(SampleOnce(params, {-1.5f, -1.0f}, {1}), 0) << "negative logits are multiplied";
}

TEST(SamplerTest, PresenceAndFrequencyPenaltiesAreOverTheOutput) {
  SamplingParams params = Params(0);
  params.presence_penalty = 1.0f;
  const std::vector<float> logits = {2.0f, 1.5f, 0.2f};
  EXPECT_EQ(SampleOnce(params, logits, {0}), 0) << "the prompt does not count";
  EXPECT_EQ(SampleOnce(params, logits, {}, {0}), 1);
  EXPECT_EQ(SampleOnce(params, logits, {}, {0, 0, 0, 1}), 0) << "once each";
  params = Params(0);
  params.frequency_penalty = 0.4f;
  EXPECT_EQ(SampleOnce(params, logits, {}, {0}), 0);
  EXPECT_EQ(SampleOnce(params, logits, {}, {0, 0}), 1);
  params.frequency_penalty = -1.0f;
  EXPECT_EQ(SampleOnce(params, logits, {}, {2, 2}), 2) << "negative ones attract";
}

TEST(SamplerTest, TheSameSeedDrawsTheSameWhateverTheSamplerDidBefore) {
  const SamplingParams params = Params();
  Sampler first(&params, 1, {});
  Sampler second(&params, 2, {});
  Sampler::Scratch scratch;
  for (int i = 0; i < 200; ++i) {
    const auto token = first.Sample(kLogits, {}, &scratch);
    (void)second.Sample({0.0f, 0.0f, 1.0f}, {}, &scratch);  // a row that comes to nothing
    EXPECT_EQ(*token, *second.Sample(kLogits, {}, &scratch));
    first.Append(*token);
    second.Append(*token);
  }
}

TEST(SamplerTest, SeedsAndPositionsDiffer) {
  std::vector<float> flat(1000, 0.0f);
  std::set<int32_t> drawn;
  SamplingParams params = Params();
  for (uint64_t seed = 0; seed < 10; ++seed) {
    params.seed = seed;
    for (int position = 0; position < 10; ++position) {
      drawn.insert(SampleOnce(params, flat, {}, std::vector<int32_t>(position, 0)));
    }
  }
  EXPECT_GT(drawn.size(), 85u) << "of 100 draws from 1000";
  params.seed.reset();
  Sampler::Scratch scratch;
  EXPECT_NE(*Sampler(&params, 1, {}).Sample(flat, {}, &scratch),
            *Sampler(&params, 2, {}).Sample(flat, {}, &scratch));
}

TEST(SamplerTest, HostileLogitsAreAnError) {
  Sampler::Scratch scratch;
  for (const float temperature : {0.0f, 1.0f}) {
    const SamplingParams params = Params(temperature);
    const Sampler sampler(&params, 0, {});
    for (const float bad : {std::nanf(""), kInfinity}) {
      EXPECT_EQ(sampler.Sample({0.0f, bad, 1.0f}, {}, &scratch).status().code(),
                absl::StatusCode::kInternal);
    }
    EXPECT_FALSE(sampler.Sample({-kInfinity, -kInfinity}, {}, &scratch).ok());
  }
  SamplingParams params = Params();
  params.min_tokens = 1;
  params.stop_token_ids = {0, 1};
  EXPECT_EQ(Sampler(&params, 0, {}).Sample({0.0f, 0.0f}, {}, &scratch).status().code(),
            absl::StatusCode::kInternal);
}

TEST(SamplerTest, ExtremeValuesStillDrawSomethingAllowed) {
  const std::vector<float> logits = {3e38f, -3e38f, -kInfinity, 2e38f};
  for (const float temperature : {1e-38f, 1e-3f, 1.0f, 100.0f}) {
    for (const bool filter : {false, true}) {
      SamplingParams params = Params(temperature);
      if (filter) {
        params.top_k = 3;
        params.top_p = 0.9f;
        params.min_p = 0.1f;
      }
      EXPECT_EQ(SampleOnce(params, logits), 0);
    }
  }
  SamplingParams params = Params();
  params.repetition_penalty = 1e-30f;
  EXPECT_EQ(SampleOnce(params, {3e38f, 1.0f}, {0, 1}), 0);
  params.repetition_penalty = 1e30f;
  EXPECT_GE(SampleOnce(params, {-3e38f, -3e38f}, {0, 1}), 0);
}

TEST(SamplerTest, AMaskedTokenIsNeverDrawn) {
  std::vector<float> logits = kLogits;
  logits[2] = -kInfinity;
  std::set<size_t> kept = All(logits.size());
  kept.erase(2);
  ExpectDistribution(Frequencies(Params(), logits), Softmax(logits, 1, kept));
}

}  // namespace
}  // namespace adamoe
