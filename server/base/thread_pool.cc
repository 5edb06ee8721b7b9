#include "server/base/thread_pool.h"

#include <algorithm>

namespace adamoe {
namespace {

// How often a waiting thread looks before it sleeps: about 50 microseconds.
constexpr int kSpins = 2000;

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

ThreadPool::ThreadPool(int num_threads) {
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
  num_busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1);
  {
    absl::MutexLock lock(&mu_);
    if (num_sleeping_ > 0) wake_.SignalAll();
  }
  RunShare(loop);
  while (num_busy_.load(std::memory_order_acquire) > 0) Pause();
}

void ThreadPool::RunShare(const Loop& loop) {
  for (;;) {
    const int64_t begin = next_.fetch_add(loop.grain, std::memory_order_relaxed);
    if (begin >= loop.n) return;
    loop.body(begin, std::min(begin + loop.grain, loop.n));
  }
}

void ThreadPool::Work() {
  uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < kSpins && epoch_.load() == seen && !stopping_.load(); ++i) Pause();
    if (epoch_.load() == seen) {
      absl::MutexLock lock(&mu_);
      ++num_sleeping_;
      while (epoch_.load() == seen && !stopping_.load()) wake_.Wait(&mu_);
      --num_sleeping_;
    }
    if (stopping_.load()) return;
    ++seen;
    RunShare(*loop_);
    num_busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace adamoe
