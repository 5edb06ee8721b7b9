// Requests with a matcher among requests without one: through queue, scheduler and sampler, on a
// model without weights.
#include <algorithm>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/executor/serving.h"

namespace adamoe {
namespace {

using ::testing::SizeIs;

constexpr int32_t kVocabSize = 97;
constexpr int32_t kStop = 96;

// Of the i-th output token: those with id % 7 == (sum of the ids before it + i) % 7, the stop token
// left out; from `end_at` tokens on the stop token alone. So a matcher that has missed a token, or
// has seen one twice, allows the wrong ones.
class SumMatcher : public TokenMatcher {
 public:
  explicit SumMatcher(int end_at, std::vector<int32_t> stops = {kStop})
      : end_at_(end_at), stops_(std::move(stops)), mask_(TokenMaskWords(kVocabSize)) {}

  static bool Fits(const std::vector<int32_t>& output, size_t i) {
    int32_t sum = static_cast<int32_t>(i);
    for (size_t j = 0; j < i; ++j) sum += output[j];
    return output[i] != kStop && output[i] % 7 == sum % 7;
  }

  absl::StatusOr<TokenMask> Allowed() override {
    if (num_tokens_ == fail_at_) return absl::ResourceExhaustedError("too ambiguous");
    std::fill(mask_.begin(), mask_.end(), 0);
    if (num_tokens_ >= end_at_) {
      for (const int32_t id : stops_) Allow(id);
      return mask_;
    }
    for (int32_t id = 0; id < kStop; ++id) {
      if (id % 7 == (sum_ + num_tokens_) % 7) Allow(id);
    }
    return mask_;
  }

  void Append(int32_t token) override {
    EXPECT_NE(token, kStop);  // a request that has ended advances no more
    sum_ += token;
    ++num_tokens_;
  }

  void FailAt(int num_tokens) { fail_at_ = num_tokens; }

 private:
  void Allow(int32_t id) { mask_[id / 32] |= 1u << (id % 32); }

  const int end_at_;
  const std::vector<int32_t> stops_;
  int fail_at_ = -1;
  int num_tokens_ = 0;
  int32_t sum_ = 0;
  std::vector<uint32_t> mask_;
};

Request Bound(uint64_t seed, int end_at, uint32_t max_tokens, float temperature = 1.0f) {
  Request request = MakeRequest(MakePrompt(9, seed), max_tokens, temperature);
  request.sampling.seed = seed;
  request.sampling.stop_token_ids = {kStop};
  request.matcher = std::make_unique<SumMatcher>(end_at);
  return request;
}

Request Free(uint64_t seed, uint32_t max_tokens) {
  Request request = MakeRequest(MakePrompt(9, seed), max_tokens, 1.0f);
  request.sampling.seed = seed;
  return request;
}

void ExpectFits(const std::vector<int32_t>& ids, size_t num_tokens) {
  ASSERT_GE(ids.size(), num_tokens);
  for (size_t i = 0; i < num_tokens; ++i) EXPECT_TRUE(SumMatcher::Fits(ids, i)) << i;
}

std::shared_ptr<RecordingSink> RunOne(Request request) {
  Serving serving;
  const auto sink = serving.Submit(std::move(request));
  serving.executor->Start();
  EXPECT_TRUE(sink->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
  return sink;
}

TEST(StructuredTest, EndsWithAStopTokenWhenComplete) {
  for (const float temperature : {0.0f, 1.0f}) {
    const auto sink = RunOne(Bound(3, 8, 50, temperature));
    ASSERT_TRUE(sink->outcome().status.ok()) << sink->outcome().status;
    EXPECT_EQ(sink->outcome().reason, FinishReason::kStopToken);
    ASSERT_THAT(sink->ids(), SizeIs(9));
    ExpectFits(sink->ids(), 8);
    EXPECT_EQ(sink->ids().back(), kStop);
  }
}

TEST(StructuredTest, MaxTokensCuts) {
  const auto sink = RunOne(Bound(3, 8, 5));
  EXPECT_EQ(sink->outcome().reason, FinishReason::kLength);
  ASSERT_THAT(sink->ids(), SizeIs(5));
  ExpectFits(sink->ids(), 5);
}

TEST(StructuredTest, MinTokensGivesWayWhereNothingElseMayCome) {
  Request request = Bound(3, 8, 50);
  request.sampling.min_tokens = 40;
  const auto sink = RunOne(std::move(request));
  EXPECT_EQ(sink->outcome().reason, FinishReason::kStopToken);
  EXPECT_THAT(sink->ids(), SizeIs(9));
}

TEST(StructuredTest, WithoutStopTokensACompleteOutputEnds) {
  Request request = Bound(3, 8, 50);
  request.sampling.stop_token_ids.clear();
  request.matcher = std::make_unique<SumMatcher>(8, std::vector<int32_t>{});
  const auto sink = RunOne(std::move(request));
  ASSERT_TRUE(sink->outcome().status.ok()) << sink->outcome().status;
  EXPECT_EQ(sink->outcome().reason, FinishReason::kStopToken);
  ASSERT_THAT(sink->ids(), SizeIs(8));
  ExpectFits(sink->ids(), 8);
  EXPECT_EQ(sink->outcome().usage.completion_tokens, 8u);
}

TEST(StructuredTest, NoBiasGetsTheBetterOfTheForm) {
  Request request = Bound(3, 8, 50);
  for (int32_t id = 0; id < kVocabSize; ++id) {
    request.sampling.logit_bias.emplace_back(id, id % 2 == 0 ? 100.0f : -100.0f);
  }
  const auto sink = RunOne(std::move(request));
  EXPECT_EQ(sink->outcome().reason, FinishReason::kStopToken);
  ExpectFits(sink->ids(), 8);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(sink->ids()[i] % 2, 0);  // among those that fit
}

TEST(StructuredTest, FiltersAndPenaltiesWorkOnWhatIsLeft) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Request request = Bound(seed, 30, 50);
    request.sampling.top_k = 1 + seed % 3;
    request.sampling.top_p = 0.5f;
    request.sampling.min_p = 0.1f;
    request.sampling.repetition_penalty = 1.5f;
    request.sampling.presence_penalty = 1.0f;
    request.sampling.frequency_penalty = -2.0f;
    const auto sink = RunOne(std::move(request));
    ASSERT_TRUE(sink->outcome().status.ok()) << sink->outcome().status;
    ExpectFits(sink->ids(), 30);
  }
}

TEST(StructuredTest, LogProbabilitiesAreTheModelsOwn) {
  Request free = Free(3, 1);
  free.num_top_logprobs = kVocabSize;
  Request bound = Bound(3, 8, 1);
  bound.num_top_logprobs = kVocabSize;
  const auto expected = RunOne(std::move(free))->tokens();
  const auto tokens = RunOne(std::move(bound))->tokens();
  ASSERT_THAT(tokens, SizeIs(1));
  const auto& all = expected[0].top_logprobs;
  ASSERT_EQ(tokens[0].top_logprobs.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(tokens[0].top_logprobs[i].id, all[i].id);
    EXPECT_EQ(tokens[0].top_logprobs[i].logprob, all[i].logprob);
  }
  const auto chosen = std::find_if(all.begin(), all.end(),
                                   [&](const TokenLogprob& t) { return t.id == tokens[0].id; });
  EXPECT_EQ(tokens[0].logprob, chosen->logprob);
}

// Little memory and priorities, so that requests are preempted and recomputed on the way.
TEST(StructuredTest, MixedBatchesUnderPreemption) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = 24;
  Executor::Options options;
  options.max_running_requests = 8;
  Serving serving(dimensions, options);
  constexpr int kRequests = 24;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < kRequests; ++i) {
    Request request = i % 2 == 0 ? Bound(i, 40, 60) : Free(i, 45);
    request.priority = i / 4;
    sinks.push_back(serving.Submit(std::move(request)));
  }
  serving.executor->Start();
  for (const auto& sink : sinks) ASSERT_TRUE(sink->AwaitFinish());
  serving.Drain();
  uint32_t num_preemptions = 0;
  for (const StepReport& step : serving.observer.record().steps) {
    num_preemptions += step.num_preemptions;
  }
  EXPECT_GT(num_preemptions, 0u);
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(sinks[i]->outcome().status.ok()) << sinks[i]->outcome().status;
    if (i % 2 == 0) {
      EXPECT_EQ(sinks[i]->ids(), RunAlone(Bound(i, 40, 60))) << i;
      ExpectFits(sinks[i]->ids(), 40);
    } else {
      EXPECT_EQ(sinks[i]->ids(), RunAlone(Free(i, 45))) << i;
    }
  }
}

TEST(StructuredTest, AMatcherThatFailsEndsItsOwnRequestOnly) {
  Serving serving;
  Request failing = Bound(1, 40, 60);
  auto matcher = std::make_unique<SumMatcher>(40);
  matcher->FailAt(5);
  failing.matcher = std::move(matcher);
  const auto failed = serving.Submit(std::move(failing));
  const auto bound = serving.Submit(Bound(2, 10, 60));
  const auto free = serving.Submit(Free(3, 30));
  serving.executor->Start();
  for (const auto& sink : {failed, bound, free}) ASSERT_TRUE(sink->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(failed->outcome().status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(failed->ids(), SizeIs(5));
  EXPECT_EQ(bound->ids(), RunAlone(Bound(2, 10, 60)));
  EXPECT_EQ(free->ids(), RunAlone(Free(3, 30)));
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
}

}  // namespace
}  // namespace adamoe
