// One request at a time, and what it is told about itself.
#include "server/executor/executor.h"

#include <cmath>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/executor/step_batch.h"
#include "tests/fakes/fake_clock.h"
#include "tests/unit/executor/serving.h"

namespace adamoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kSlotsPerPosition = 6;  // k = 3 in 2 layers

uint64_t Sum(const SlotCounts& slots) {
  return slots.true_slots + slots.null_slots + slots.dropped_slots;
}

// Runs one request on its own server, and ends it.
std::shared_ptr<RecordingSink> ServeOne(Serving* serving, Request request) {
  const auto sink = serving->Submit(std::move(request));
  serving->executor->Start();
  EXPECT_TRUE(sink->AwaitFinish());
  serving->Drain();
  EXPECT_TRUE(sink->in_order());
  return sink;
}

TEST(ExecutorTest, RunsARequestFromEndToEnd) {
  Serving serving;
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(11, 1), 7));
  EXPECT_THAT(sink->tokens(), SizeIs(7));
  EXPECT_TRUE(sink->outcome().status.ok()) << sink->outcome().status;
  EXPECT_EQ(sink->outcome().reason, FinishReason::kLength);
  EXPECT_FALSE(sink->prompt().has_value());
  const Usage usage = sink->outcome().usage;
  EXPECT_EQ(usage.prompt_tokens, 11u);
  EXPECT_EQ(usage.completion_tokens, 7u);
  EXPECT_EQ(usage.cached_prompt_tokens, 0u);
  EXPECT_EQ(usage.positions, 11u + 7 - 1) << "the last token is not fed back";
  EXPECT_EQ(Sum(usage.slots), usage.positions * kSlotsPerPosition);
  EXPECT_EQ(serving.model.num_positions(), usage.positions);
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
  EXPECT_EQ(serving.queue.num_waiting(), 0u);
}

TEST(ExecutorTest, EndsAtAStopTokenWhichCounts) {
  const std::vector<int32_t> ids = RunAlone(MakeRequest(MakePrompt(9, 2), 20));
  Request request = MakeRequest(MakePrompt(9, 2), 20);
  request.sampling.stop_token_ids = {ids[4]};
  const size_t first = std::find(ids.begin(), ids.end(), ids[4]) - ids.begin();
  Serving serving;
  const auto sink = ServeOne(&serving, request);
  EXPECT_EQ(sink->ids(), std::vector<int32_t>(ids.begin(), ids.begin() + first + 1));
  EXPECT_EQ(sink->outcome().reason, FinishReason::kStopToken);
  EXPECT_EQ(sink->outcome().usage.completion_tokens, first + 1);
}

TEST(ExecutorTest, EndsWhenTheSinkSaysSo) {
  Serving serving;
  const auto sink = serving.Submit(MakeRequest(MakePrompt(9, 2), 20));
  sink->StopAfter(3);
  serving.executor->Start();
  ASSERT_TRUE(sink->AwaitFinish());
  serving.Drain();
  EXPECT_THAT(sink->tokens(), SizeIs(3));
  EXPECT_EQ(sink->outcome().reason, FinishReason::kStopSequence);
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
}

TEST(ExecutorTest, WithoutTokensToGenerateItOnlyRunsThePrompt) {
  Serving serving;
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(9, 2), 0));
  EXPECT_THAT(sink->tokens(), IsEmpty());
  EXPECT_FALSE(sink->prompt().has_value());
  EXPECT_TRUE(sink->outcome().status.ok());
  EXPECT_EQ(sink->outcome().reason, FinishReason::kNone);
  EXPECT_EQ(sink->outcome().usage.positions, 9u);
}

TEST(ExecutorTest, TheContextBoundsTheOutput) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.max_context_tokens = 16;
  Serving serving(dimensions);
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(12, 2), 4000000000u));
  EXPECT_EQ(sink->outcome().usage.positions, 16u);
  EXPECT_THAT(sink->tokens(), SizeIs(5));
  EXPECT_EQ(sink->outcome().reason, FinishReason::kLength);
}

TEST(ExecutorTest, RefusesWhatCannotFitTheCache) {
  Serving serving;  // 256 positions
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(200, 2), 58));
  EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(sink->outcome().status.message()), HasSubstr("256"));
  EXPECT_EQ(serving.queue.num_waiting(), 0u);
  Serving other;
  EXPECT_TRUE(ServeOne(&other, MakeRequest(MakePrompt(200, 2), 57))->outcome().status.ok());
}

TEST(ExecutorTest, RefusesAPromptBeyondTheContext) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.max_context_tokens = 16;
  Serving serving(dimensions);
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(17, 2), 1));
  EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(ExecutorTest, ATokensExpertsAreThoseOfThePositionItWasSampledFrom) {
  Serving serving;
  Request request = MakeRequest(MakePrompt(9, 2), 5);
  request.experts_per_layer = true;
  request.prompt_info_from = 0;
  const auto sink = ServeOne(&serving, request);
  const auto prompt = *sink->prompt();
  const auto tokens = sink->tokens();
  EXPECT_EQ(tokens[0].experts, prompt[8].experts);
  EXPECT_EQ(tokens[0].experts_per_layer, prompt[8].experts_per_layer);
  uint64_t total = tokens[1].experts + tokens[2].experts + tokens[3].experts + tokens[4].experts;
  for (const TokenInfo& token : prompt) {
    total += token.experts;
    ASSERT_THAT(token.experts_per_layer, SizeIs(2));
    EXPECT_EQ(token.experts, token.experts_per_layer[0] + token.experts_per_layer[1]);
  }
  EXPECT_EQ(total, sink->outcome().usage.slots.true_slots);
}

TEST(ExecutorTest, LogprobsAreOnlyGivenWhenAskedFor) {
  Serving serving;
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(9, 2), 2));
  EXPECT_FALSE(sink->tokens()[0].logprob.has_value());
  EXPECT_THAT(sink->tokens()[0].top_logprobs, IsEmpty());
  EXPECT_THAT(sink->tokens()[0].experts_per_layer, IsEmpty());
}

// Whatever bends the choice, log-probabilities are the model's own.
TEST(ExecutorTest, LogprobsAreThoseOfTheModelItself) {
  Request plain = MakeRequest(MakePrompt(9, 2), 1);
  plain.num_top_logprobs = 97;
  Serving first;
  const TokenInfo greedy = ServeOne(&first, plain)->tokens()[0];
  ASSERT_THAT(greedy.top_logprobs, SizeIs(97));
  EXPECT_EQ(greedy.top_logprobs[0].id, greedy.id);
  EXPECT_EQ(greedy.top_logprobs[0].logprob, *greedy.logprob);
  double sum = 0;
  for (const TokenLogprob& token : greedy.top_logprobs) sum += std::exp(token.logprob);
  EXPECT_NEAR(sum, 1, 1e-4);

  Request bent = plain;
  bent.num_top_logprobs = 2;
  bent.sampling.temperature = 0.1f;
  bent.sampling.logit_bias = {{greedy.top_logprobs[50].id, 100.0f}};
  Serving second;
  const TokenInfo chosen = ServeOne(&second, bent)->tokens()[0];
  EXPECT_EQ(chosen.id, greedy.top_logprobs[50].id);
  EXPECT_FLOAT_EQ(*chosen.logprob, greedy.top_logprobs[50].logprob);
  ASSERT_THAT(chosen.top_logprobs, SizeIs(2));
  EXPECT_EQ(chosen.top_logprobs[0].id, greedy.id);
}

// A prompt's log-probabilities are those that the same tokens had when they were generated, however
// it is chunked.
TEST(ExecutorTest, PromptInfosAgreeWithGeneration) {
  const std::vector<int32_t> prompt = MakePrompt(6, 3);
  Request generate = MakeRequest(prompt, 15);
  generate.num_top_logprobs = 3;
  Serving generating;
  const auto generated = ServeOne(&generating, generate);

  Request score = MakeRequest(prompt, 0);
  for (const int32_t id : generated->ids()) score.prompt.push_back(id);
  score.num_top_logprobs = 3;
  for (const int32_t budget : {1, 2, 5, 512}) {
    for (const uint32_t from : {0u, 1u, 4u, 6u, 20u, 21u}) {
      score.prompt_info_from = from;
      Executor::Options options;
      options.max_batch_tokens = budget;
      Serving serving(FakeModel::SmallDimensions(), options);
      const auto sink = ServeOne(&serving, score);
      ASSERT_TRUE(sink->prompt().has_value());
      const std::vector<TokenInfo> infos = *sink->prompt();
      ASSERT_EQ(infos.size(), 21u - from);
      for (size_t i = 0; i < infos.size(); ++i) {
        const size_t position = from + i;
        EXPECT_EQ(infos[i].id, score.prompt[position]);
        EXPECT_EQ(infos[i].logprob.has_value(), position > 0);
        if (position < prompt.size()) continue;
        const TokenInfo token = generated->tokens()[position - prompt.size()];
        EXPECT_FLOAT_EQ(*infos[i].logprob, *token.logprob);
        ASSERT_THAT(infos[i].top_logprobs, SizeIs(3));
        EXPECT_EQ(infos[i].top_logprobs[2].id, token.top_logprobs[2].id);
      }
    }
  }
}

// A token scored behind the prompt has the log-probability it has within a prompt, and is not run.
TEST(ExecutorTest, ATokenBehindThePromptIsScoredAndNotRun) {
  const std::vector<int32_t> tokens = MakePrompt(20, 3);
  Request whole = MakeRequest(tokens, 0);
  whole.num_top_logprobs = 2;
  Request cut = whole;
  cut.prompt.pop_back();
  cut.scored_next_token = tokens.back();
  for (const int32_t budget : {1, 7, 512}) {
    for (const uint32_t from : {0u, 12u, 19u}) {
      SCOPED_TRACE(testing::Message() << "budget " << budget << ", from " << from);
      whole.prompt_info_from = cut.prompt_info_from = from;
      Executor::Options options;
      options.max_batch_tokens = budget;
      Serving with_all(FakeModel::SmallDimensions(), options);
      const std::vector<TokenInfo> want = *ServeOne(&with_all, whole)->prompt();
      Serving without_last(FakeModel::SmallDimensions(), options);
      const auto sink = ServeOne(&without_last, cut);
      const std::vector<TokenInfo> got = *sink->prompt();
      ASSERT_EQ(got.size(), 20u - from);
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].id, want[i].id);
        EXPECT_EQ(got[i].logprob, want[i].logprob);
        EXPECT_EQ(got[i].experts, i + 1 < got.size() ? want[i].experts : 0u);
      }
      ASSERT_THAT(got.back().top_logprobs, SizeIs(2));
      EXPECT_EQ(got.back().top_logprobs[1].id, want.back().top_logprobs[1].id);
      EXPECT_EQ(sink->outcome().usage.prompt_tokens, 20u);
      EXPECT_EQ(sink->outcome().usage.positions, 19u);
    }
  }
}

TEST(ExecutorTest, TheDialChangesSlots) {
  Request request = MakeRequest(MakePrompt(40, 2), 4);
  request.compute.null_bias = 1;
  Serving all_null;
  const SlotCounts null_slots = ServeOne(&all_null, request)->outcome().usage.slots;
  EXPECT_EQ(null_slots.null_slots, Sum(null_slots));
  request.compute = {0, 1};
  Serving one_each;
  const SlotCounts one = ServeOne(&one_each, request)->outcome().usage.slots;
  EXPECT_GT(one.dropped_slots, 0u);
  EXPECT_LE(one.true_slots, 43u * 2);
}

TEST(ExecutorTest, MeasuresQueuePrefillAndDecodeTime) {
  FakeClock clock;
  Executor::Options options;
  options.max_batch_tokens = 4;
  Serving serving(FakeModel::SmallDimensions(), options, &clock);
  const auto sink = serving.Submit(MakeRequest(MakePrompt(8, 1), 3));
  clock.Advance(absl::Seconds(5));
  serving.model.set_before_step(
      [&](int step, const ForwardBatch&) { clock.Advance(absl::Seconds(step < 2 ? 10 : 1)); });
  serving.executor->Start();
  ASSERT_TRUE(sink->AwaitFinish());
  serving.Drain();
  const Usage usage = sink->outcome().usage;
  EXPECT_EQ(usage.queue_time, absl::Seconds(5));
  EXPECT_EQ(usage.prefill_time, absl::Seconds(20));
  EXPECT_EQ(usage.decode_time, absl::Seconds(2));
  const auto record = serving.observer.record();
  EXPECT_THAT(record.admissions, ElementsAre(absl::Seconds(5)));
  EXPECT_THAT(record.first_tokens, ElementsAre(absl::Seconds(25)));
  EXPECT_THAT(record.next_tokens, ElementsAre(absl::Seconds(1), absl::Seconds(1)));
}

// A reader that takes a second over each token.
class SlowSink : public RecordingSink {
 public:
  explicit SlowSink(FakeClock* clock) : clock_(clock) {}
  Next OnToken(TokenInfo token) override {
    clock_->Advance(absl::Seconds(1));
    return RecordingSink::OnToken(std::move(token));
  }

 private:
  FakeClock* const clock_;
};

TEST(ExecutorTest, ReportsTheTimeBetweenForwardPasses) {
  FakeClock clock;
  Serving serving(FakeModel::SmallDimensions(), Executor::Options(), &clock);
  serving.model.set_before_step(
      [&](int, const ForwardBatch&) { clock.Advance(absl::Seconds(10)); });
  serving.executor->Start();
  for (int i = 0; i < 2; ++i) {
    const auto sink = std::make_shared<SlowSink>(&clock);
    Request request = MakeRequest(MakePrompt(8, 1), 3);
    request.sink = sink;
    ASSERT_TRUE(serving.queue.Submit(std::make_unique<Request>(std::move(request))).ok());
    ASSERT_TRUE(sink->AwaitFinish());
  }
  serving.Drain();
  const auto steps = serving.observer.record().steps;
  ASSERT_THAT(steps, SizeIs(6));
  for (int i : {1, 2, 4, 5}) EXPECT_EQ(steps[i].overhead, absl::Seconds(1)) << i;
  for (int i : {0, 3}) EXPECT_EQ(steps[i].overhead, std::nullopt) << i;
}

TEST(ExecutorTest, ReportsEveryStep) {
  Executor::Options options;
  options.max_batch_tokens = 4;
  Serving serving(FakeModel::SmallDimensions(), options);
  const auto sink = ServeOne(&serving, MakeRequest(MakePrompt(7, 1), 3));
  const auto record = serving.observer.record();
  ASSERT_THAT(record.steps, SizeIs(4));
  EXPECT_EQ(record.steps[0].phase, StepPhase::kPrefill);
  EXPECT_EQ(record.steps[0].num_prompt_tokens, 4u);
  EXPECT_EQ(record.steps[0].num_generated_tokens, 0u);
  EXPECT_EQ(record.steps[1].num_prompt_tokens, 3u);
  EXPECT_EQ(record.steps[1].num_generated_tokens, 1u);
  EXPECT_EQ(record.steps[2].phase, StepPhase::kDecode);
  EXPECT_EQ(record.steps[2].num_tokens, 1u);
  EXPECT_EQ(record.steps[2].num_prompt_tokens, 0u);
  SlotCounts total;
  for (const StepReport& step : record.steps) {
    SlotCounts of_step = step.prefill_slots;
    of_step += step.decode_slots;
    SlotCounts of_layers;
    uint64_t rows = 0;
    for (const SlotCounts& layer : step.layer_slots) of_layers += layer;
    for (const auto& layer : step.expert_tokens) {
      for (const uint32_t expert_rows : layer) rows += expert_rows;
    }
    EXPECT_EQ(of_layers, of_step);
    EXPECT_EQ(rows, of_step.true_slots);
    EXPECT_EQ(Sum(of_step), step.num_tokens * kSlotsPerPosition);
    total += of_step;
  }
  EXPECT_EQ(total, sink->outcome().usage.slots);
  double experts = 0;
  for (const TokenInfo& token : sink->tokens()) experts += token.experts / 2.0;
  double reported = 0;
  for (const double value : record.token_experts) reported += value;
  EXPECT_DOUBLE_EQ(reported, experts);
}

TEST(ExecutorTest, ReportsTheWorkOutsideTheExperts) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.sliding_window = 5;
  Executor::Options options;
  options.max_batch_tokens = 4;
  Serving serving(dimensions, options);
  ServeOne(&serving, MakeRequest(MakePrompt(7, 1), 3));
  const auto steps = serving.observer.record().steps;
  ASSERT_THAT(steps, SizeIs(4));
  const auto expect = [](const OtherWork& work, uint64_t positions, uint64_t keys, uint64_t rows) {
    EXPECT_EQ(work.num_positions, positions);
    EXPECT_EQ(work.num_keys_attended, keys);
    EXPECT_EQ(work.num_logit_rows, rows);
  };
  expect(steps[0].prefill_work, 4, 1 + 2 + 3 + 4, 0);
  expect(steps[1].prefill_work, 3, 5 + 5 + 5, 1);
  expect(steps[1].decode_work, 0, 0, 0);
  expect(steps[2].decode_work, 1, 5, 1);
  expect(steps[3].decode_work, 1, 5, 1);
  expect(steps[3].prefill_work, 0, 0, 0);
}

TEST(ExecutorTest, EveryPositionAttendsToThoseBeforeIt) {
  EXPECT_EQ(KeysAttended(0, 0, 0), 0u);
  EXPECT_EQ(KeysAttended(0, 1, 0), 1u);
  EXPECT_EQ(KeysAttended(3, 6, 0), 4u + 5 + 6);
  EXPECT_EQ(KeysAttended(3, 6, 5), 4u + 5 + 5);
  EXPECT_EQ(KeysAttended(3, 6, 100), 4u + 5 + 6);
}

}  // namespace
}  // namespace adamoe
