// Score through real gRPC, on an executor with a model without weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

struct Scored {
  v1::ScoreResponse response;
  grpc::Status status;
};

Scored Score(v1::Inference::Stub& stub, const v1::ScoreRequest& request,
             absl::Duration patience = kPatience) {
  Scored scored;
  grpc::ClientContext context;
  SetPatience(context, patience);
  scored.status = stub.Score(&context, request, &scored.response);
  return scored;
}

// A context of `size` tokens.
v1::ScoreRequest WithContext(int size) {
  v1::ScoreRequest request;
  for (int i = 0; i < size; ++i) request.mutable_context_tokens()->add_ids(10 + i * 7 % 300);
  return request;
}

void AddContinuation(const std::vector<uint32_t>& ids, v1::ScoreRequest& request) {
  request.add_continuations()->mutable_tokens()->mutable_ids()->Add(ids.begin(), ids.end());
}

TEST(ScoreTest, AgreesWithPromptLogprobs) {
  Serving serving;
  v1::ScoreRequest request = WithContext(23);
  const std::vector<std::vector<uint32_t>> continuations = {{50}, {60, 61, 62}, {70, 71}};
  for (const auto& ids : continuations) AddContinuation(ids, request);
  const Scored scored = Score(serving.stub(), request);
  ASSERT_TRUE(scored.status.ok()) << scored.status.error_message();
  ASSERT_EQ(scored.response.scores_size(), 3);
  uint32_t num_prompt_tokens = 0;
  for (int i = 0; i < 3; ++i) {
    v1::GenerateRequest whole;
    *whole.mutable_prompt_tokens() = request.context_tokens();
    whole.mutable_prompt_tokens()->mutable_ids()->Add(continuations[i].begin(),
                                                      continuations[i].end());
    whole.mutable_sampling()->set_max_tokens(1);
    whole.set_prompt_logprobs(true);
    const Generated generated = Generate(serving.stub(), whole);
    ASSERT_TRUE(generated.status.ok()) << generated.status.error_message();
    const v1::ContinuationScore& score = scored.response.scores(i);
    ASSERT_EQ(score.num_tokens(), continuations[i].size());
    double sum = 0;
    for (uint32_t j = 0; j < score.num_tokens(); ++j) {
      const float expected = generated.all.prompt_tokens_info(23 + static_cast<int>(j)).logprob();
      EXPECT_FLOAT_EQ(score.token_logprobs(static_cast<int>(j)), expected);
      sum += expected;
    }
    EXPECT_NEAR(score.logprob(), sum, 1e-5);
    num_prompt_tokens += 23 + score.num_tokens();
  }
  const v1::Usage& usage = scored.response.usage();
  EXPECT_EQ(usage.prompt_tokens(), num_prompt_tokens);
  EXPECT_EQ(usage.completion_tokens(), 0);
  // The context was run once: the second and third found it in the prefix cache.
  EXPECT_GE(usage.cached_prompt_tokens(), 2 * 20);
  // The last token of each of the three was not run.
  EXPECT_EQ(usage.true_slots() + usage.null_slots() + usage.dropped_slots(),
            uint64_t{usage.prompt_tokens() - 3 - usage.cached_prompt_tokens()} * 2 * 3);
}

TEST(ScoreTest, TheContextMayBeFullBeforeTheLastToken) {
  Serving serving;
  const int max_context = Serving::Dimensions().max_context_tokens;
  v1::ScoreRequest request = WithContext(max_context - 3);
  AddContinuation({50, 51, 52, 53}, request);
  const Scored scored = Score(serving.stub(), request);
  ASSERT_TRUE(scored.status.ok()) << scored.status.error_message();
  EXPECT_EQ(scored.response.scores(0).token_logprobs_size(), 4);
  const v1::Usage& usage = scored.response.usage();
  EXPECT_EQ(usage.prompt_tokens(), max_context + 1);
  EXPECT_EQ(usage.true_slots() + usage.null_slots() + usage.dropped_slots(),
            uint64_t(max_context) * 2 * 3);
  AddContinuation({50, 51, 52, 53, 54}, request);
  EXPECT_EQ(Score(serving.stub(), request).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(ScoreTest, SaysWhatIsGreedy) {
  Serving serving;
  v1::GenerateRequest prompt;
  v1::ScoreRequest request = WithContext(9);
  *prompt.mutable_prompt_tokens() = request.context_tokens();
  prompt.mutable_sampling()->set_temperature(0);
  prompt.mutable_sampling()->set_max_tokens(3);
  const Generated generated = Generate(serving.stub(), prompt);
  std::vector<uint32_t> greedy;
  for (const auto& token : generated.all.tokens()) greedy.push_back(token.id());
  ASSERT_EQ(greedy.size(), 3);
  AddContinuation(greedy, request);
  AddContinuation({greedy[0], greedy[1], (greedy[2] + 1) % 400}, request);
  AddContinuation({(greedy[0] + 1) % 400}, request);
  const Scored scored = Score(serving.stub(), request);
  ASSERT_TRUE(scored.status.ok()) << scored.status.error_message();
  EXPECT_TRUE(scored.response.scores(0).is_greedy());
  EXPECT_FALSE(scored.response.scores(1).is_greedy());
  EXPECT_FALSE(scored.response.scores(2).is_greedy());
}

TEST(ScoreTest, MoreContinuationsThanTheQueueHolds) {
  ServingOptions options;
  options.max_queued = 3;
  Serving serving(options);
  v1::ScoreRequest request = WithContext(5);
  for (uint32_t i = 0; i < 200; ++i) AddContinuation({20 + i, 30}, request);
  const Scored scored = Score(serving.stub(), request);
  ASSERT_TRUE(scored.status.ok()) << scored.status.error_message();
  EXPECT_EQ(scored.response.scores_size(), 200);
  // In the order of the request.
  for (const int i : {0, 1, 77, 199}) {
    v1::ScoreRequest single = WithContext(5);
    *single.add_continuations() = request.continuations(i);
    EXPECT_FLOAT_EQ(Score(serving.stub(), single).response.scores(0).logprob(),
                    scored.response.scores(i).logprob());
  }
  EXPECT_EQ(serving.Count("ok"), 5);
  EXPECT_EQ(serving.CountAll(), 5);
}

TEST(ScoreTest, TextIsTokenisedWithItsContext) {
  Serving serving;
  const Scored scored =
      Score(serving.stub(),
            FromText<v1::ScoreRequest>("context: 'one two ' continuations { text: 'three' }"));
  ASSERT_TRUE(scored.status.ok()) << scored.status.error_message();
  const auto all = serving.tokenizer().Encode("one two three", {});
  const auto context = serving.tokenizer().Encode("one two", {});
  EXPECT_EQ(scored.response.scores(0).num_tokens(), all->size() - context->size());
}

TEST(ScoreTest, AFailureEndsItOnce) {
  ServingOptions options;
  options.faults.fail_step = 1;
  options.executor.max_running_requests = 4;
  Serving serving(options);
  v1::ScoreRequest request = WithContext(9);
  for (uint32_t i = 0; i < 50; ++i) AddContinuation({20 + i}, request);
  EXPECT_EQ(Score(serving.stub(), request).status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(serving.Count("error"), 1);
  EXPECT_EQ(serving.CountAll(), 1);
  EXPECT_TRUE(Eventually([&] { return serving.metrics().load().num_running == 0; }));
}

TEST(ScoreTest, ADeadlineEndsIt) {
  Serving serving;
  v1::ScoreRequest request = WithContext(9);
  for (uint32_t i = 0; i < 5; ++i) AddContinuation({20 + i}, request);
  constexpr absl::Duration kDeadline = absl::Milliseconds(400);
  RunPastDeadline(serving, kDeadline, [&] {
    EXPECT_EQ(Score(serving.stub(), request, kDeadline).status.error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  EXPECT_TRUE(Eventually([&] { return serving.CountAll() == 1; }));
  EXPECT_EQ(serving.Count("deadline"), 1);
}

TEST(ScoreTest, AFullOrClosedQueueRefusesIt) {
  Serving serving;
  serving.queue().Close();
  v1::ScoreRequest request = WithContext(9);
  AddContinuation({1}, request);
  EXPECT_EQ(Score(serving.stub(), request).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(serving.Count("rejected"), 1);
}

TEST(ScoreTest, ABadRequestIsRefused) {
  Serving serving;
  EXPECT_EQ(Score(serving.stub(), WithContext(3)).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(serving.Count("invalid"), 1);
}

}  // namespace
}  // namespace adamoe
