// A fixed set of threads that share one loop at a time: what the CPU kernels split their rows over.
//
// Between two loops that follow closely the workers spin briefly before they sleep: a decode step
// holds some hundred loops of a few microseconds each. A loop does not wait for workers that come
// late: on a busy machine its caller runs what they leave.
#ifndef ADAMOE_SERVER_BASE_THREAD_POOL_H_
#define ADAMOE_SERVER_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {

class ThreadPool {
 public:
  // Starts `num_threads` - 1 workers: the caller of ParallelFor is the remaining one. REQUIRES:
  // num_threads >= 1.
  explicit ThreadPool(int num_threads);
  // REQUIRES: no ParallelFor in progress.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end) on disjoint ranges that cover [0, n), each of at least `grain` items but
  // for the last, and returns when all are done; what the bodies wrote is then visible to the
  // caller. The ranges are handed out as threads come free, so a body must not depend on which
  // thread runs it. Not reentrant, one caller at a time. REQUIRES: grain >= 1; n + grain *
  // num_threads fits int64_t; the body does not throw.
  void ParallelFor(int64_t n, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body);

 private:
  struct Loop;

  void Work();
  void RunShare(const Loop& loop);
  void Join();
  void SleepUntilAfter(uint64_t epoch);

  // Workers inside a loop, plus kClosed while there is none to join. A worker adds 1 and, unless
  // kClosed is set, reads loop_, which the caller wrote before it took kClosed off; the caller
  // returns when only kClosed is left.
  std::atomic<int64_t> gate_;
  const Loop* loop_ = nullptr;
  std::atomic<int64_t> next_{0};  // first item not handed out

  // Counts the loops: what an idle worker watches.
  std::atomic<uint64_t> epoch_{0};
  std::atomic<bool> stopping_{false};
  // Raised under mu_ by a worker before it looks at epoch_ a last time; read by the caller after it
  // has raised epoch_. One of the two sees the other.
  std::atomic<int> num_sleeping_{0};
  absl::Mutex mu_;
  absl::CondVar wake_;

  std::vector<std::thread> workers_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_BASE_THREAD_POOL_H_
