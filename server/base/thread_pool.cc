#include "server/base/thread_pool.h"

#include <algorithm>

namespace adamoe {
namespace {

constexpr int64_t kClosed = int64_t{1} << 32;

// How often a worker looks before it sleeps: about 50 microseconds.
constexpr int kWorkerSpins = 2000;
// How often the caller looks before it lets others have its processor: they may be what it waits
// for.
constexpr int kCallerSpins = 4000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::Loop {
  int64_t n;
  int64_t grain;
  absl::FunctionRef<void(int64_t, int64_t)> body;
};

ThreadPool::ThreadPool(int num_threads) : gate_(kClosed) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this] { Work(); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  {
    absl::MutexLock lock(&mu_);
    wake_.SignalAll();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(int64_t n, int64_t grain,
                             absl::FunctionRef<void(int64_t begin, int64_t end)> body) {
  if (n <= 0) return;
  if (workers_.empty() || n <= grain) {
    body(0, n);
    return;
  }
  const Loop loop{n, grain, body};
  loop_ = &loop;
  next_.store(0, std::memory_order_relaxed);
  gate_.fetch_sub(kClosed, std::memory_order_release);
  epoch_.fetch_add(1);
  if (num_sleeping_.load() > 0) {
    absl::MutexLock lock(&mu_);
    wake_.SignalAll();
  }
  RunShare(loop);
  gate_.fetch_add(kClosed, std::memory_order_relaxed);
  for (int i = 0; gate_.load(std::memory_order_acquire) != kClosed; ++i) {
    if (i < kCallerSpins) {
      Pause();
    } else {
      std::this_thread::yield();
      i = kCallerSpins;
    }
  }
}

void ThreadPool::RunShare(const Loop& loop) {
  for (;;) {
    const int64_t begin = next_.fetch_add(loop.grain, std::memory_order_relaxed);
    if (begin >= loop.n) return;
    loop.body(begin, std::min(begin + loop.grain, loop.n));
  }
}

void ThreadPool::Join() {
  if (gate_.fetch_add(1, std::memory_order_acquire) < kClosed) RunShare(*loop_);
  gate_.fetch_sub(1, std::memory_order_release);
}

void ThreadPool::SleepUntilAfter(uint64_t epoch) {
  absl::MutexLock lock(&mu_);
  num_sleeping_.fetch_add(1);
  while (epoch_.load() == epoch && !stopping_.load()) wake_.Wait(&mu_);
  num_sleeping_.fetch_sub(1);
}

void ThreadPool::Work() {
  uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < kWorkerSpins && epoch_.load() == seen && !stopping_.load(); ++i) Pause();
    if (epoch_.load() == seen) SleepUntilAfter(seen);
    if (stopping_.load()) return;
    seen = epoch_.load();
    Join();
  }
}

}  // namespace adamoe
