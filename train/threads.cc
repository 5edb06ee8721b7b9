#include "train/threads.h"

#include <ATen/Parallel.h>
#include <c10/core/thread_pool.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/synchronization/blocking_counter.h"

namespace adamoe {
namespace {

// One thread for each processor, kept for the life of the program: the compiled matrix products of
// oneDNN are cached in the thread that ran them.
c10::ThreadPool& Pool() {
  static c10::ThreadPool& pool =
      *new c10::ThreadPool(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())),
                           /*numa_node_id=*/-1, [] { at::set_num_threads(1); });
  return pool;
}

}  // namespace

void ForEach(int num_threads, size_t n, absl::FunctionRef<void(size_t i)> body) {
  const int num_tasks =
      static_cast<int>(std::min({static_cast<size_t>(num_threads), n, Pool().size()}));
  std::atomic<size_t> next{0};
  absl::BlockingCounter running(num_tasks);
  for (int task = 0; task < num_tasks; ++task) {
    Pool().run([&] {
      for (size_t i = next++; i < n; i = next++) body(i);
      running.DecrementCount();
    });
  }
  running.Wait();
}

}  // namespace adamoe
