#include "train/threads.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <thread>
#include <vector>

namespace adamoe {

void ForEach(int num_threads, size_t n, absl::FunctionRef<void(size_t i)> body) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    at::set_num_threads(1);
    for (size_t i = next++; i < n; i = next++) body(i);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < num_threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace adamoe
