// What this machine can do at most: how fast memory is read, how fast numbers in registers are
// multiplied and added. What the kernels reach is a share of it. Each call measures for about half
// a second, on `num_threads` threads.
#ifndef ADAMOE_TESTS_BENCH_ROOF_H_
#define ADAMOE_TESTS_BENCH_ROOF_H_

#include "server/kernels/cpu/isa.h"

namespace adamoe {

// 10^9 bytes per second: the best of some passes over a gigabyte, of which every thread adds up a
// part of its own.
double ReadBandwidth(int num_threads);

// What is multiplied; sums are in 32 bits.
enum class Operands : uint8_t {
  kFloat32,
  kBFloat16,  // in pairs; as float32 where the instruction set has no such product
  kInt16      // in pairs
};

// 10^9 multiplications and additions per second. REQUIRES: IsaSupported(isa).
double ArithmeticRate(Isa isa, Operands operands, int num_threads);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_BENCH_ROOF_H_
