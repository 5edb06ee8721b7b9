// Runs pieces of LibTorch work next to each other, each piece in one thread.
#ifndef ADAMOE_TRAIN_THREADS_H_
#define ADAMOE_TRAIN_THREADS_H_

#include <cstddef>

#include "absl/functional/function_ref.h"

namespace adamoe {

// Calls body(i) for every i in [0, n) from up to `num_threads` threads of a pool with one thread
// for each processor, in each of which LibTorch's operations run alone; returns when all are done.
// A thread that is done takes the next i, so threads that get less of a processor do less.
// REQUIRES: num_threads >= 1; the body does not throw, may run for different i at the same time,
// and does not call ForEach.
void ForEach(int num_threads, size_t n, absl::FunctionRef<void(size_t i)> body);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_THREADS_H_
