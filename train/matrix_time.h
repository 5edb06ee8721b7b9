// How long LibTorch's matrix products take.
#ifndef ADAMOE_TRAIN_MATRIX_TIME_H_
#define ADAMOE_TRAIN_MATRIX_TIME_H_

namespace adamoe {

// Seconds that the threads of this process, added up, have spent in LibTorch's matrix products on
// the CPU since the first call, which starts the clock and returns 0. Attention's own products,
// which run inside one kernel with its softmax, are not among them. Thread-safe.
double MatrixProductSeconds();

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MATRIX_TIME_H_
