// A fixed set of threads that share one loop at a time: what the CPU kernels split their rows over.
//
// Between two loops that follow closely the workers spin briefly before they sleep: a decode step holds some hundred
// loops of a few microseconds each.
#ifndef ADAMOE_SERVER_BASE_THREAD_POOL_H_
#define ADAMOE_SERVER_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {

class ThreadPool {
 public:
  // Starts `num_threads` - 1 workers: the caller of ParallelFor is the remaining one. REQUIRES: num_threads >= 1.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end) on disjoint ranges that cover [0, n), each of at least `grain` items but for the last, and
  // returns when all are done. The ranges are handed out as threads come free, so a body must not depend on which
  // thread runs it. Not reentrant, one caller at a time. REQUIRES: grain >= 1; the body does not throw.
  void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t begin, int64_t end)> body);

 private:
  struct Loop;

  void Work();
  void RunShare(const Loop& loop);

  // The loop in progress; written by the caller before epoch_ is raised, read by workers after.
  const Loop* loop_ = nullptr;
  std::atomic<int64_t> next_{0};
  std::atomic<int> num_busy_{0};
  std::atomic<uint64_t> epoch_{0};
  std::atomic<bool> stopping_{false};

  absl::Mutex mu_;
  absl::CondVar wake_;
  int num_sleeping_ ABSL_GUARDED_BY(mu_) = 0;

  std::vector<std::thread> workers_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_BASE_THREAD_POOL_H_
