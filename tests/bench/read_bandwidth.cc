// Prints how fast memory is read, in 10^9 bytes per second: the best of some passes over a gigabyte
// by so many threads, each of which adds up a part of its own.
//
//   read_bandwidth THREADS
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kWords = int64_t{1} << 27;
constexpr int kPasses = 8;

uint64_t Sum(const uint64_t* data, int64_t size) {
  uint64_t sums[64] = {};  // apart, so that additions do not wait for each other
  for (int64_t i = 0; i + 64 <= size; i += 64) {
    for (int64_t j = 0; j < 64; ++j) sums[j] += data[i + j];
  }
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  const int num_threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (num_threads < 1) {
    std::fprintf(stderr, "usage: read_bandwidth THREADS\n");
    return 2;
  }
  const std::vector<uint64_t> data(kWords, 1);
  std::vector<uint64_t> totals(num_threads);
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    const int64_t part = kWords / num_threads;
    for (int t = 0; t < num_threads; ++t) {
      threads.emplace_back([&, t] { totals[t] = Sum(data.data() + t * part, part); });
    }
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, static_cast<double>(num_threads * part * 8) / seconds.count() * 1e-9);
  }
  for (uint64_t total : totals) {
    if (total == 0) return 1;
  }
  std::printf("%.2f\n", best);
}
