#include "server/queue/request_queue.h"

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_clock.h"

namespace adamoe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::unique_ptr<Request> MakeRequest(const std::string& id) {
  auto request = std::make_unique<Request>();
  request->id = id;
  request->prompt = {1};
  return request;
}

std::vector<std::string> Ids(const RequestQueue::Arrivals& arrivals) {
  std::vector<std::string> ids;
  for (const auto& [ticket, request] : arrivals.requests) ids.push_back(request->id);
  return ids;
}

TEST(RequestQueueTest, HandsOverInOrderOfArrivalOnce) {
  FakeClock clock;
  RequestQueue queue(&clock, 8);
  const auto first = queue.Submit(MakeRequest("a"));
  clock.Advance(absl::Seconds(2));
  const auto second = queue.Submit(MakeRequest("b"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_LT(*first, *second);
  const RequestQueue::Arrivals arrivals = queue.Take();
  EXPECT_THAT(Ids(arrivals), ElementsAre("a", "b"));
  EXPECT_EQ(arrivals.requests[0].first, *first);
  EXPECT_EQ(arrivals.requests[1].second->submit_time - arrivals.requests[0].second->submit_time,
            absl::Seconds(2));
  EXPECT_EQ(arrivals.requests[1].second->submit_time, clock.Now());
  EXPECT_THAT(queue.Take().requests, IsEmpty());
}

TEST(RequestQueueTest, ARequestHoldsItsPlaceUntilReleased) {
  FakeClock clock;
  RequestQueue queue(&clock, 2);
  ASSERT_TRUE(queue.Submit(MakeRequest("a")).ok());
  ASSERT_TRUE(queue.Submit(MakeRequest("b")).ok());
  EXPECT_EQ(queue.Submit(MakeRequest("c")).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(queue.Take().requests.size(), 2u);
  EXPECT_EQ(queue.num_waiting(), 2u);
  EXPECT_EQ(queue.Submit(MakeRequest("d")).status().code(), absl::StatusCode::kResourceExhausted);
  queue.Release(1);
  EXPECT_EQ(queue.num_waiting(), 1u);
  EXPECT_TRUE(queue.Submit(MakeRequest("e")).ok());
  EXPECT_THAT(Ids(queue.Take()), ElementsAre("e"));
}

TEST(RequestQueueTest, CancellationsComeWithTheirTickets) {
  FakeClock clock;
  RequestQueue queue(&clock, 2);
  const auto ticket = queue.Submit(MakeRequest("a"));
  ASSERT_TRUE(ticket.ok());
  queue.Cancel(*ticket);
  const RequestQueue::Arrivals arrivals = queue.Take();
  EXPECT_THAT(Ids(arrivals), ElementsAre("a"));
  EXPECT_THAT(arrivals.cancelled, ElementsAre(*ticket));
  EXPECT_THAT(queue.Take().cancelled, IsEmpty());
}

TEST(RequestQueueTest, RefusesAfterCloseButKeepsWhatItHolds) {
  FakeClock clock;
  RequestQueue queue(&clock, 8);
  ASSERT_TRUE(queue.Submit(MakeRequest("a")).ok());
  EXPECT_FALSE(queue.closed());
  queue.Close();
  EXPECT_TRUE(queue.closed());
  EXPECT_EQ(queue.Submit(MakeRequest("b")).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Ids(queue.Take()), ElementsAre("a"));
}

TEST(RequestQueueTest, AwaitEndsWhenItsTimeHasCome) {
  FakeClock clock;
  RequestQueue queue(&clock, 8);
  const absl::Time before = absl::Now();
  queue.Await(clock.Now() - absl::Seconds(1));
  queue.Await(clock.Now() + absl::Milliseconds(20));
  EXPECT_GE(absl::Now() - before, absl::Milliseconds(20));
}

// Each of these ends an Await that would otherwise last an hour, also when it comes first.
TEST(RequestQueueTest, AwaitEndsWithNews) {
  const std::vector<std::function<void(RequestQueue*)>> news = {
      [](RequestQueue* queue) { EXPECT_TRUE(queue->Submit(MakeRequest("a")).ok()); },
      [](RequestQueue* queue) { queue->Cancel(1); },
      [](RequestQueue* queue) { queue->Close(); },
      [](RequestQueue* queue) { queue->Wake(); },
  };
  for (const auto& happen : news) {
    for (const bool early : {true, false}) {
      FakeClock clock;
      RequestQueue queue(&clock, 8);
      if (early) happen(&queue);
      std::thread awaiter([&] { queue.Await(clock.Now() + absl::Hours(1)); });
      if (!early) {
        absl::SleepFor(absl::Milliseconds(5));
        happen(&queue);
      }
      awaiter.join();
    }
  }
}

TEST(RequestQueueTest, AClosedQueueDoesNotKeepItsReaderAwake) {
  FakeClock clock;
  RequestQueue queue(&clock, 8);
  queue.Close();
  queue.Await(clock.Now() + absl::Hours(1));
  const absl::Time before = absl::Now();
  queue.Await(clock.Now() + absl::Milliseconds(20));
  EXPECT_GE(absl::Now() - before, absl::Milliseconds(20));
}

TEST(RequestQueueTest, LosesNothingBetweenThreads) {
  constexpr int kThreads = 4;
  constexpr int kEach = 500;
  RealClock clock;
  RequestQueue queue(&clock, 64);
  std::atomic<int> refused{0};
  std::vector<std::thread> submitters;
  for (int thread = 0; thread < kThreads; ++thread) {
    submitters.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        auto ticket = queue.Submit(MakeRequest("r"));
        for (; !ticket.ok(); ticket = queue.Submit(MakeRequest("r"))) {
          ++refused;
          std::this_thread::yield();
        }
        if (i % 3 == 0) queue.Cancel(*ticket);
      }
    });
  }
  std::set<RequestTicket> taken;
  size_t num_cancelled = 0;
  while (taken.size() < kThreads * kEach) {
    queue.Await(clock.Now() + absl::Seconds(10));
    const RequestQueue::Arrivals arrivals = queue.Take();
    for (const auto& [ticket, request] : arrivals.requests) {
      EXPECT_TRUE(taken.insert(ticket).second);
    }
    num_cancelled += arrivals.cancelled.size();
    EXPECT_LE(queue.num_waiting(), 64u);
    queue.Release(arrivals.requests.size());
  }
  for (std::thread& submitter : submitters) submitter.join();
  num_cancelled += queue.Take().cancelled.size();
  EXPECT_EQ(num_cancelled, static_cast<size_t>(kThreads * ((kEach + 2) / 3)));
  EXPECT_EQ(queue.num_waiting(), 0u);
}

}  // namespace
}  // namespace adamoe
