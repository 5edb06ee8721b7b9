// Many requests at once get what each would get alone.
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/executor/serving.h"

namespace adamoe {
namespace {

using ::testing::SizeIs;

// Requests of all kinds that share prefixes, dials and sampling.
Request RandomRequest(std::mt19937* random) {
  const auto between = [random](int low, int high) {
    return low + static_cast<int>((*random)() % (high - low + 1));
  };
  std::vector<int32_t> prompt = MakePrompt(between(1, 40), between(1, 4));
  for (int i = between(0, 6); i > 0; --i) prompt.push_back(between(0, 96));
  Request request = MakeRequest(prompt, between(0, 30), between(0, 1) * 0.8f);
  request.sampling.seed = (*random)();
  if (between(0, 2) == 0) request.compute.max_experts_per_token = between(1, 2);
  if (between(0, 3) == 0) request.compute.null_bias = 0.5f;
  if (between(0, 2) == 0) {
    request.sampling.repetition_penalty = 1.3f;
    request.sampling.frequency_penalty = 0.4f;
    request.sampling.top_p = 0.8f;
  }
  if (between(0, 3) == 0) request.sampling.top_k = between(1, 10);
  if (between(0, 3) == 0) request.sampling.stop_token_ids = {between(0, 96), between(0, 96)};
  if (between(0, 3) == 0) request.prompt_info_from = between(0, request.prompt.size());
  if (between(0, 1) == 0) request.num_top_logprobs = between(0, 3);
  request.priority = between(-1, 1);
  return request;
}

void ExpectPromptInfo(const RecordingSink& sink, const Request& request) {
  ASSERT_EQ(sink.prompt().has_value(), request.prompt_info_from.has_value());
  if (!request.prompt_info_from) return;
  Request alone = request;
  alone.sampling.max_tokens = 0;
  Serving serving;
  const auto expected = serving.Submit(alone);
  serving.executor->Start();
  ASSERT_TRUE(expected->AwaitFinish());
  const auto want = *expected->prompt();
  const auto got = *sink.prompt();
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].id, want[i].id);
    EXPECT_EQ(got[i].logprob, want[i].logprob);
    EXPECT_EQ(got[i].experts, want[i].experts);
  }
}

// One row of the table: how much memory and how large a batch.
struct Setting {
  int32_t num_blocks;
  int32_t max_batch_tokens;
  int32_t max_running;
  bool prefix_caching;
  bool cache_is_small;  // so that sequences are preempted for its blocks
};

class BatchingTest : public ::testing::TestWithParam<Setting> {};

TEST_P(BatchingTest, BatchedEqualsOneAtATime) {
  const Setting setting = GetParam();
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = setting.num_blocks;
  Executor::Options options;
  options.max_batch_tokens = setting.max_batch_tokens;
  options.max_running_requests = setting.max_running;
  options.prefix_caching = setting.prefix_caching;
  options.starvation_limit = absl::Milliseconds(20);
  std::mt19937 random(setting.num_blocks * 31 + setting.max_batch_tokens);
  Serving serving(dimensions, options);
  std::vector<Request> requests;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  serving.executor->Start();
  for (int i = 0; i < 120; ++i) {
    requests.push_back(RandomRequest(&random));
    sinks.push_back(serving.Submit(requests.back()));
    if (i % 10 == 0) absl::SleepFor(absl::Milliseconds(1));
  }
  uint64_t positions = 0;
  for (size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(sinks[i]->AwaitFinish());
    EXPECT_TRUE(sinks[i]->in_order());
    EXPECT_TRUE(sinks[i]->outcome().status.ok()) << sinks[i]->outcome().status;
    EXPECT_EQ(sinks[i]->ids(), RunAlone(requests[i])) << "request " << i;
    ExpectPromptInfo(*sinks[i], requests[i]);
    const Usage usage = sinks[i]->outcome().usage;
    EXPECT_EQ(usage.completion_tokens, sinks[i]->tokens().size());
    EXPECT_EQ(usage.slots.true_slots + usage.slots.null_slots + usage.slots.dropped_slots,
              usage.positions * 6);
    positions += usage.positions;
  }
  serving.Drain();
  EXPECT_EQ(serving.model.num_positions(), positions);
  EXPECT_LE(serving.model.largest_step(), setting.max_batch_tokens);
  const auto record = serving.observer.record();
  EXPECT_EQ(record.load.num_free_blocks, static_cast<uint32_t>(setting.num_blocks));
  uint32_t num_preemptions = 0;
  size_t num_prompt_tokens = 0;
  for (const StepReport& step : record.steps) {
    num_preemptions += step.num_preemptions;
    num_prompt_tokens += step.num_prompt_tokens + step.num_cached_prompt_tokens;
  }
  for (const Request& request : requests) num_prompt_tokens -= request.prompt.size();
  EXPECT_EQ(num_prompt_tokens, 0u) << "each prompt position is run or cached once";
  EXPECT_TRUE(num_preemptions > 0 || !setting.cache_is_small);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, BatchingTest,
    ::testing::Values(Setting{2048, 512, 200, true, false}, Setting{2048, 512, 200, false, false},
                      Setting{2048, 7, 6, true, false}, Setting{40, 64, 16, true, true},
                      Setting{40, 64, 16, false, true}, Setting{22, 3, 3, true, true}));

TEST(ChunkingTest, ALongPromptKeepsShortOnesGoing) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = 1024;
  Executor::Options options;
  options.prefill_chunk_tokens = 16;
  Serving serving(dimensions, options);
  std::vector<std::shared_ptr<RecordingSink>> streams;
  for (int i = 0; i < 4; ++i) streams.push_back(serving.Submit(MakeRequest(MakePrompt(4, i), 150)));
  std::shared_ptr<RecordingSink> prompt;
  serving.model.set_before_step([&](int step, const ForwardBatch& batch) {
    if (step == 3) prompt = serving.Submit(MakeRequest(MakePrompt(2000, 9), 1));
    EXPECT_LE(batch.num_tokens(), 16 + 4);
  });
  serving.executor->Start();
  for (const auto& stream : streams) ASSERT_TRUE(stream->AwaitFinish());
  ASSERT_TRUE(prompt->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(serving.model.num_steps(), 150) << "a token of each stream in every step";
}

TEST(PrefixCacheTest, ASecondRequestTakesThePromptFromTheCache) {
  Serving serving;
  serving.executor->Start();
  const std::vector<int32_t> prompt = MakePrompt(18, 1);
  const auto first = serving.Submit(MakeRequest(prompt, 5));
  ASSERT_TRUE(first->AwaitFinish());
  const auto second = serving.Submit(MakeRequest(prompt, 5));
  ASSERT_TRUE(second->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(second->ids(), first->ids());
  EXPECT_EQ(second->outcome().usage.cached_prompt_tokens, 16u);
  EXPECT_EQ(second->outcome().usage.positions, 18u + 5 - 1 - 16);
  uint32_t num_cached = 0;
  uint32_t num_run = 0;
  for (const StepReport& step : serving.observer.record().steps) {
    num_cached += step.num_cached_prompt_tokens;
    num_run += step.num_prompt_tokens;
  }
  EXPECT_EQ(num_cached, 16u);
  EXPECT_EQ(num_run, 18u + 2);
}

TEST(PrefixCacheTest, AConversationContinuesFromItsOwnOutput) {
  Serving serving;
  serving.executor->Start();
  std::vector<int32_t> conversation = MakePrompt(8, 1);
  const auto first = serving.Submit(MakeRequest(conversation, 9));
  ASSERT_TRUE(first->AwaitFinish());
  for (const int32_t id : first->ids()) conversation.push_back(id);
  conversation.push_back(3);
  const auto second = serving.Submit(MakeRequest(conversation, 5));
  ASSERT_TRUE(second->AwaitFinish());
  EXPECT_EQ(second->outcome().usage.cached_prompt_tokens, 16u) << "of 8 + 9 + 1";
  EXPECT_EQ(second->ids(), RunAlone(MakeRequest(conversation, 5)));
}

TEST(PrefixCacheTest, DifferentDialsShareNothing) {
  Serving serving;
  serving.executor->Start();
  const ComputeDial kDials[] = {{0, 0}, {0.5f, 0}, {0, 1}, {0, 2}, {0.5f, 2}, {-0.5f, 0}};
  for (const ComputeDial& dial : kDials) {
    Request request = MakeRequest(MakePrompt(18, 1), 5);
    request.compute = dial;
    const auto sink = serving.Submit(request);
    ASSERT_TRUE(sink->AwaitFinish());
    EXPECT_EQ(sink->outcome().usage.cached_prompt_tokens, 0u);
    EXPECT_EQ(sink->ids(), RunAlone(request));
  }
  Request request = MakeRequest(MakePrompt(18, 1), 5);
  request.compute.null_bias = -0.0f;
  const auto sink = serving.Submit(request);
  ASSERT_TRUE(sink->AwaitFinish());
  EXPECT_EQ(sink->outcome().usage.cached_prompt_tokens, 16u) << "minus zero is zero";
}

// To score position p, the logits of p - 1 are needed, so that one is run at least.
TEST(PrefixCacheTest, PromptInformationBoundsWhatIsTakenFromTheCache) {
  const std::vector<int32_t> prompt = MakePrompt(18, 1);
  const struct {
    uint32_t from;
    uint32_t cached;
  } kCases[] = {{0, 0}, {1, 0}, {4, 0}, {5, 4}, {8, 4}, {9, 8}, {16, 12}, {17, 16}, {18, 16}};
  Serving serving;
  serving.executor->Start();
  ASSERT_TRUE(serving.Submit(MakeRequest(prompt, 0))->AwaitFinish());
  for (const auto& [from, cached] : kCases) {
    Request request = MakeRequest(prompt, 0);
    request.prompt_info_from = from;
    const auto sink = serving.Submit(request);
    ASSERT_TRUE(sink->AwaitFinish());
    EXPECT_EQ(sink->outcome().usage.cached_prompt_tokens, cached) << from;
    ASSERT_THAT(*sink->prompt(), SizeIs(18 - from));
    ExpectPromptInfo(*sink, request);
  }
}

TEST(PrefixCacheTest, CanBeTurnedOff) {
  Executor::Options options;
  options.prefix_caching = false;
  Serving serving(FakeModel::SmallDimensions(), options);
  serving.executor->Start();
  for (int i = 0; i < 2; ++i) {
    const auto sink = serving.Submit(MakeRequest(MakePrompt(18, 1), 5));
    ASSERT_TRUE(sink->AwaitFinish());
    EXPECT_EQ(sink->outcome().usage.cached_prompt_tokens, 0u);
  }
}

// Preempted in the middle of its output, a request goes on as if nothing had happened, and pays for
// the recomputation.
TEST(PreemptionTest, NoTokenIsLostSentTwiceOrDrawnAnew) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = 16;
  Executor::Options options;
  options.prefix_caching = false;
  Serving serving(dimensions, options);
  Request low = MakeRequest(MakePrompt(10, 1), 30, 0.9f);
  low.sampling.frequency_penalty = 0.5f;
  low.prompt_info_from = 0;
  low.num_top_logprobs = 1;
  Request high = MakeRequest(MakePrompt(20, 2), 30, 0.9f);
  high.priority = 1;
  const auto low_sink = serving.Submit(low);
  std::shared_ptr<RecordingSink> high_sink;
  serving.model.set_before_step([&](int step, const ForwardBatch&) {
    if (step == 12) high_sink = serving.Submit(high);
  });
  serving.executor->Start();
  ASSERT_TRUE(low_sink->AwaitFinish());
  ASSERT_TRUE(high_sink->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(low_sink->ids(), RunAlone(low));
  EXPECT_EQ(high_sink->ids(), RunAlone(high));
  EXPECT_TRUE(low_sink->in_order()) << "prompt information comes once";
  ExpectPromptInfo(*low_sink, low);
  const auto record = serving.observer.record();
  uint32_t num_preemptions = 0;
  uint32_t num_prompt_tokens = 0;
  uint64_t decode_slots = 0;
  for (const StepReport& step : record.steps) {
    num_preemptions += step.num_preemptions;
    num_prompt_tokens += step.num_prompt_tokens;
    decode_slots += step.decode_slots.true_slots + step.decode_slots.null_slots;
  }
  EXPECT_GE(num_preemptions, 1u);
  EXPECT_EQ(num_prompt_tokens, 30u) << "recomputed ones are not counted again";
  EXPECT_GT(low_sink->outcome().usage.positions, 39u) << "recomputed ones cost again";
  EXPECT_EQ(high_sink->outcome().usage.positions, 49u);
  EXPECT_LT(decode_slots, 6u * 58);
}

}  // namespace
}  // namespace adamoe
