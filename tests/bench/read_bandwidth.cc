// Prints how fast memory is read, in 10^9 bytes per second (tests/bench/roof.h).
//
//   read_bandwidth THREADS
#include <cstdio>
#include <cstdlib>

#include "tests/bench/roof.h"

int main(int argc, char** argv) {
  const int num_threads = argc == 2 ? std::atoi(argv[1]) : 0;
  if (num_threads < 1) {
    std::fprintf(stderr, "usage: read_bandwidth THREADS\n");
    return 2;
  }
  std::printf("%.2f\n", adamoe::ReadBandwidth(num_threads));
}
