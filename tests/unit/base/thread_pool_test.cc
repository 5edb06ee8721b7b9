#include "server/base/thread_pool.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adamoe {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::Pair;

// How often each of n items was visited.
std::vector<int> Visits(ThreadPool* pool, int64_t n, int64_t grain) {
  std::vector<int> visits(n, 0);
  pool->ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++visits[i];
  });
  return visits;
}

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, VisitsEveryItemOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.num_threads(), GetParam());
  for (int64_t n : {0, 1, 2, 3, 7, 64, 1000}) {
    for (int64_t grain : {1, 2, 3, 10, 2000}) {
      const std::vector<int> visits = Visits(&pool, n, grain);
      EXPECT_EQ(visits.size(), static_cast<size_t>(n));
      EXPECT_THAT(visits, Each(1)) << n << " items by " << grain;
    }
  }
}

TEST_P(ThreadPoolTest, RangesAreWholeGrainsButForTheLast) {
  ThreadPool pool(GetParam());
  std::mutex mu;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  pool.ParallelFor(103, 10, [&](int64_t begin, int64_t end) {
    std::lock_guard<std::mutex> lock(mu);
    ranges.emplace_back(begin, end);
  });
  for (const auto& [begin, end] : ranges) {
    EXPECT_TRUE(end == 103 || end - begin >= 10);
    EXPECT_LT(begin, end);
  }
}

TEST_P(ThreadPoolTest, ManyShortLoopsInARow) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> sums(8, 0);
  for (int round = 0; round < 20000; ++round) {
    pool.ParallelFor(8, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sums[i] += round;
    });
  }
  EXPECT_THAT(sums, Each(20000LL * 19999 / 2));
}

TEST_P(ThreadPoolTest, WakesWorkersThatFellAsleep) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    absl::SleepFor(absl::Milliseconds(3));
    EXPECT_THAT(Visits(&pool, 100, 1), Each(1));
  }
}

TEST_P(ThreadPoolTest, ShowsTheCallerWhatBodiesWrote) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> a(512), b(512);
  for (int64_t round = 1; round <= 200; ++round) {
    pool.ParallelFor(512, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) a[i] = i * round;
    });
    pool.ParallelFor(512, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) b[i] = a[511 - i];
    });
    for (int64_t i = 0; i < 512; ++i) ASSERT_EQ(b[i], (511 - i) * round);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPoolOfTwoTest, BothThreadsWorkAtOnce) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  // Each item waits for the other: one thread alone would never end.
  pool.ParallelFor(2, 1, [&](int64_t, int64_t) {
    arrived.fetch_add(1);
    while (arrived.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 2);
}

TEST(ThreadPoolOfTwoTest, ALoopOfOneGrainStaysOnTheCaller) {
  ThreadPool pool(2);
  std::vector<std::pair<std::thread::id, int64_t>> calls;
  pool.ParallelFor(
      10, 10, [&](int64_t, int64_t end) { calls.emplace_back(std::this_thread::get_id(), end); });
  EXPECT_THAT(calls, ElementsAre(Pair(std::this_thread::get_id(), 10)));
}

TEST(ThreadPoolOfTwoTest, EndsWithoutEverHavingRun) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(4);
}

}  // namespace
}  // namespace adamoe
