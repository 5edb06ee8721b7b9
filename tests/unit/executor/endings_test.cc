// How requests end before their time: cancellation, deadlines, faults of the model, shutdown.
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_clock.h"
#include "tests/unit/executor/serving.h"

namespace adamoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(CancelTest, EndsARunningRequestWithinAStep) {
  Serving serving;
  RequestTicket ticket = 0;
  const auto cancelled = serving.Submit(MakeRequest(MakePrompt(9, 1), 100), &ticket);
  const auto other = serving.Submit(MakeRequest(MakePrompt(9, 2), 20));
  serving.model.set_before_step([&](int step, const ForwardBatch& batch) {
    if (step == 5) serving.queue.Cancel(ticket);
    EXPECT_EQ(batch.num_sequences(), step > 5 ? 1 : 2);
  });
  serving.executor->Start();
  ASSERT_TRUE(cancelled->AwaitFinish());
  ASSERT_TRUE(other->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(cancelled->outcome().status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(cancelled->tokens(), SizeIs(6));
  EXPECT_EQ(cancelled->outcome().usage.completion_tokens, 6u);
  EXPECT_EQ(other->ids(), RunAlone(MakeRequest(MakePrompt(9, 2), 20)));
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
}

TEST(CancelTest, EndsAWaitingRequestAndGivesItsPlaceBack) {
  Executor::Options options;
  options.max_running_requests = 1;
  Serving serving(FakeModel::SmallDimensions(), options);
  RequestTicket ticket = 0;
  const auto running = serving.Submit(MakeRequest(MakePrompt(9, 1), 10));
  const auto waiting = serving.Submit(MakeRequest(MakePrompt(9, 2), 10), &ticket);
  serving.model.set_before_step([&](int step, const ForwardBatch&) {
    if (step == 2) serving.queue.Cancel(ticket);
    if (step == 3) {
      EXPECT_TRUE(waiting->finished());
      EXPECT_EQ(serving.queue.num_waiting(), 0u);
    }
  });
  serving.executor->Start();
  ASSERT_TRUE(running->AwaitFinish());
  ASSERT_TRUE(waiting->AwaitFinish());
  EXPECT_EQ(waiting->outcome().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(waiting->outcome().usage.positions, 0u);
}

TEST(CancelTest, IsWithoutEffectOnceOver) {
  Serving serving;
  RequestTicket ticket = 0;
  serving.executor->Start();
  const auto sink = serving.Submit(MakeRequest(MakePrompt(9, 1), 3), &ticket);
  ASSERT_TRUE(sink->AwaitFinish());
  serving.queue.Cancel(ticket);
  serving.queue.Cancel(ticket + 1000);
  const auto other = serving.Submit(MakeRequest(MakePrompt(9, 1), 3));
  ASSERT_TRUE(other->AwaitFinish());
  EXPECT_TRUE(other->outcome().status.ok());
  EXPECT_TRUE(sink->in_order());
}

TEST(DeadlineTest, EndsRunningRequestsAndThoseThatNeverRan) {
  FakeClock clock;
  Executor::Options options;
  options.max_running_requests = 2;
  Serving serving(FakeModel::SmallDimensions(), options, &clock);
  Request late = MakeRequest(MakePrompt(9, 1), 100);
  late.deadline = clock.Now() + absl::Seconds(10);
  Request stale = MakeRequest(MakePrompt(9, 2), 100);
  stale.deadline = clock.Now();
  Request queued = MakeRequest(MakePrompt(9, 3), 100);
  queued.deadline = clock.Now() + absl::Seconds(5);
  const auto late_sink = serving.Submit(late);
  const auto stale_sink = serving.Submit(stale);
  const auto patient = serving.Submit(MakeRequest(MakePrompt(9, 4), 20));
  const auto queued_sink = serving.Submit(queued);
  serving.model.set_before_step([&](int, const ForwardBatch&) { clock.Advance(absl::Seconds(1)); });
  serving.executor->Start();
  for (const auto& sink : {late_sink, stale_sink, patient, queued_sink}) {
    ASSERT_TRUE(sink->AwaitFinish());
  }
  serving.Drain();
  for (const auto& sink : {late_sink, stale_sink, queued_sink}) {
    EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_THAT(late_sink->tokens(), SizeIs(10));
  EXPECT_EQ(stale_sink->outcome().usage.positions, 0u);
  EXPECT_EQ(queued_sink->outcome().usage.queue_time, absl::Seconds(5));
  EXPECT_TRUE(patient->outcome().status.ok());
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
  EXPECT_EQ(serving.queue.num_waiting(), 0u);
}

// In step 4 of two requests something goes wrong. Both fail; a third that comes later is served,
// from scratch.
void ExpectFaultFailsTheStep(const FakeModel::Faults& faults,
                             const ::testing::Matcher<std::string>& message) {
  Serving serving;
  serving.model.set_faults(faults);
  const auto first = serving.Submit(MakeRequest(MakePrompt(18, 1), 30));
  const auto second = serving.Submit(MakeRequest(MakePrompt(18, 2), 30));
  serving.executor->Start();
  for (const auto& sink : {first, second}) {
    ASSERT_TRUE(sink->AwaitFinish());
    EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(sink->outcome().status.message()), message);
    EXPECT_THAT(sink->tokens(), SizeIs(4));
  }
  const auto third = serving.Submit(MakeRequest(MakePrompt(18, 1), 30));
  ASSERT_TRUE(third->AwaitFinish());
  serving.Drain();
  EXPECT_TRUE(third->outcome().status.ok()) << third->outcome().status;
  EXPECT_EQ(third->outcome().usage.cached_prompt_tokens, 0u) << "what failed is not reused";
  EXPECT_EQ(third->ids(), RunAlone(MakeRequest(MakePrompt(18, 1), 30)));
  EXPECT_EQ(serving.observer.record().load.num_free_blocks, 64u);
}

TEST(FaultTest, AnErrorOfTheModelFailsTheStepsRequests) {
  FakeModel::Faults faults;
  faults.fail_step = 4;
  ExpectFaultFailsTheStep(faults, HasSubstr("the fake device has failed"));
}

TEST(FaultTest, ALostModelFailsAllAndMakesNoProgress) {
  FakeModel::Faults faults;
  faults.lose_step = 2;
  Serving serving;
  serving.model.set_faults(faults);
  EXPECT_GT(serving.executor->last_progress(), absl::InfinitePast());
  serving.executor->Start();
  for (int i = 0; i < 3; ++i) {
    const auto sink = serving.Submit(MakeRequest(MakePrompt(18, i), 30));
    ASSERT_TRUE(sink->AwaitFinish());
    EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(sink->outcome().status.message()), HasSubstr("is lost"));
  }
  serving.Drain();
  EXPECT_EQ(serving.executor->last_progress(), absl::InfinitePast());
}

TEST(FaultTest, SoDoesAnException) {
  FakeModel::Faults faults;
  faults.throw_step = 4;
  ExpectFaultFailsTheStep(faults, HasSubstr("the fake device is gone"));
}

TEST(FaultTest, ARowThatWasNotExecutedIsNoticed) {
  FakeModel::Faults faults;
  faults.skip_row_step = 4;
  ExpectFaultFailsTheStep(
      faults, AllOf(HasSubstr("layer 1"), HasSubstr("rows executed"), HasSubstr("rows routed")));
}

TEST(FaultTest, LogitsThatAreNoNumbersFailTheirRequestOnly) {
  FakeModel::Faults faults;
  faults.nan_step = 4;
  Serving serving;
  serving.model.set_faults(faults);
  const auto good = serving.Submit(MakeRequest(MakePrompt(18, 1), 10));
  const auto bad = serving.Submit(MakeRequest(MakePrompt(18, 2), 10));
  serving.executor->Start();
  ASSERT_TRUE(good->AwaitFinish());
  ASSERT_TRUE(bad->AwaitFinish());
  const auto again = serving.Submit(MakeRequest(MakePrompt(18, 2), 10));
  ASSERT_TRUE(again->AwaitFinish());
  EXPECT_EQ(good->ids(), RunAlone(MakeRequest(MakePrompt(18, 1), 10)));
  EXPECT_EQ(bad->outcome().status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(bad->outcome().status.message()), HasSubstr("NaN"));
  EXPECT_EQ(again->outcome().usage.cached_prompt_tokens, 0u);
}

TEST(FaultTest, SoDoThoseOfAPromptPosition) {
  FakeModel::Faults faults;
  faults.nan_step = 0;
  Serving serving;
  serving.model.set_faults(faults);
  Request request = MakeRequest(MakePrompt(18, 1), 0);
  request.prompt_info_from = 3;
  const auto sink = serving.Submit(request);
  serving.executor->Start();
  ASSERT_TRUE(sink->AwaitFinish());
  EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(sink->outcome().status.message()), HasSubstr("prompt position 17"));
  EXPECT_FALSE(sink->prompt().has_value());
}

TEST(DrainTest, LetsWhatIsQueuedAndRunningEnd) {
  Executor::Options options;
  options.max_running_requests = 2;
  Serving serving(FakeModel::SmallDimensions(), options);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 10; ++i) sinks.push_back(serving.Submit(MakeRequest(MakePrompt(9, i), 20)));
  serving.executor->Start();
  serving.Drain();
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->finished());
    EXPECT_TRUE(sink->outcome().status.ok());
    EXPECT_THAT(sink->tokens(), SizeIs(20));
  }
  EXPECT_EQ(serving.queue.Submit(std::make_unique<Request>()).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(DrainTest, EndsWhatIsLeftWhenTheTimeIsUp) {
  FakeClock clock;
  Executor::Options options;
  options.max_running_requests = 1;
  Serving serving(FakeModel::SmallDimensions(), options, &clock);
  const auto running = serving.Submit(MakeRequest(MakePrompt(9, 1), 200));
  const auto queued = serving.Submit(MakeRequest(MakePrompt(9, 2), 200));
  serving.model.set_before_step([&](int, const ForwardBatch&) {
    if (serving.queue.closed()) clock.Advance(absl::Seconds(1));
    absl::SleepFor(absl::Milliseconds(1));
  });
  serving.executor->Start();
  serving.executor->Drain(absl::Seconds(5));
  for (const auto& sink : {running, queued}) {
    ASSERT_TRUE(sink->finished());
    EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_LT(running->tokens().size(), 200u);
  EXPECT_EQ(serving.queue.num_waiting(), 0u);
}

TEST(DrainTest, TheDestructorStopsAtOnce) {
  Serving serving;
  const auto sink = serving.Submit(MakeRequest(MakePrompt(9, 1), 200));
  std::atomic<bool> began{false};
  serving.model.set_before_step([&](int, const ForwardBatch&) {
    began = true;
    absl::SleepFor(absl::Milliseconds(5));
  });
  serving.executor->Start();
  while (!began) std::this_thread::yield();
  serving.executor.reset();
  ASSERT_TRUE(sink->finished());
  EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(serving.queue.closed());
}

TEST(DrainTest, AnExecutorThatNeverStartedEndsItsRequestsToo) {
  Serving serving;
  const auto sink = serving.Submit(MakeRequest(MakePrompt(9, 1), 200));
  serving.executor.reset();
  ASSERT_TRUE(sink->finished());
  EXPECT_EQ(sink->outcome().status.code(), absl::StatusCode::kUnavailable);
}

TEST(HeartbeatTest, ProgressMovesOnWhileIdle) {
  Serving serving;
  serving.executor->Start();
  const absl::Time before = serving.executor->last_progress();
  const absl::Time give_up = absl::Now() + absl::Seconds(20);
  while (serving.executor->last_progress() - before < absl::Milliseconds(600)) {
    ASSERT_LT(absl::Now(), give_up);
    absl::SleepFor(absl::Milliseconds(50));
  }
}

TEST(HeartbeatTest, ProgressStandsStillWhileTheModelHangs) {
  Serving serving;
  std::atomic<bool> hangs{true};
  std::atomic<bool> began{false};
  serving.model.set_before_step([&](int, const ForwardBatch&) {
    began = true;
    while (hangs) absl::SleepFor(absl::Milliseconds(1));
  });
  const auto sink = serving.Submit(MakeRequest(MakePrompt(9, 1), 2));
  serving.executor->Start();
  while (!began) std::this_thread::yield();
  const absl::Time stuck = serving.executor->last_progress();
  absl::SleepFor(absl::Milliseconds(700));
  EXPECT_EQ(serving.executor->last_progress(), stuck);
  hangs = false;
  EXPECT_TRUE(sink->AwaitFinish());
}

// 2,000 requests of all kinds from four threads, a quarter of them cancelled, over a cache that is
// too small.
TEST(SoakTest, EndsWithEveryBlockFree) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = 48;
  Executor::Options options;
  options.max_batch_tokens = 48;
  options.max_running_requests = 12;
  Serving serving(dimensions, options);
  serving.executor->Start();
  std::vector<std::shared_ptr<RecordingSink>> sinks[kThreads];
  std::vector<std::thread> clients;
  for (int client = 0; client < kThreads; ++client) {
    clients.emplace_back([&serving, &mine = sinks[client], client] {
      std::mt19937 random(client);
      for (int i = 0; i < kEach; ++i) {
        Request request = MakeRequest(MakePrompt(1 + random() % 60, random() % 5), random() % 40,
                                      (random() % 2) * 1.0f);
        request.priority = static_cast<int32_t>(random() % 3);
        request.sampling.seed.reset();
        if (random() % 5 == 0) request.prompt_info_from = random() % request.prompt.size();
        if (random() % 5 == 0) request.deadline = absl::Now() + absl::Milliseconds(random() % 20);
        if (random() % 5 == 0) request.compute.max_experts_per_token = 1;
        RequestTicket ticket = 0;
        mine.push_back(serving.Submit(std::move(request), &ticket));
        if (random() % 4 == 0) {
          if (random() % 2 == 0) absl::SleepFor(absl::Microseconds(random() % 500));
          serving.queue.Cancel(ticket);
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  serving.Drain();
  int num_ok = 0;
  for (const auto& of_client : sinks) {
    for (const auto& sink : of_client) {
      ASSERT_TRUE(sink->finished());
      EXPECT_TRUE(sink->in_order());
      const absl::Status status = sink->outcome().status;
      EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kCancelled ||
                  status.code() == absl::StatusCode::kDeadlineExceeded)
          << status;
      num_ok += status.ok() ? 1 : 0;
    }
  }
  EXPECT_GT(num_ok, 500);
  const LoadReport load = serving.observer.record().load;
  EXPECT_EQ(load.num_free_blocks, 48u);
  EXPECT_EQ(load.num_running, 0u);
  EXPECT_EQ(load.num_waiting, 0u);
  EXPECT_EQ(serving.queue.num_waiting(), 0u);
}

}  // namespace
}  // namespace adamoe
