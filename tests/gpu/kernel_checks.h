// Checks of the CUDA kernels against the reference operations, on grids of shapes. The same checks
// run on a GPU (tests/gpu/kernels_main.cc) and, with the kernels emulated, as a unit test
// (tests/unit/kernels/cuda). They need no test framework: GPU machines may have none.
#ifndef ADAMOE_TESTS_GPU_KERNEL_CHECKS_H_
#define ADAMOE_TESTS_GPU_KERNEL_CHECKS_H_

#include <string>
#include <vector>

namespace adamoe {

struct KernelCheck {
  const char* name;
  void (*run)();
};

const std::vector<KernelCheck>& KernelChecks();

// Runs one and returns what failed, empty when nothing did.
std::vector<std::string> Run(const KernelCheck& check);

// For the checks themselves: notes a failure, with the case in hand.
void Fail(const std::string& what);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_KERNEL_CHECKS_H_
