// Checks of the CUDA kernels against the reference operations, on grids of shapes. The same checks
// run on a GPU and, with the kernels emulated, on the host (kernels_test.cc).
#ifndef ADAMOE_TESTS_GPU_KERNELS_KERNEL_CHECKS_H_
#define ADAMOE_TESTS_GPU_KERNELS_KERNEL_CHECKS_H_

#include <string>
#include <vector>

namespace adamoe {

struct KernelCheck {
  const char* name;
  void (*run)();
};

const std::vector<KernelCheck>& KernelChecks();

// Runs one and returns what failed, empty when nothing did.
std::vector<std::string> RunKernelCheck(const KernelCheck& check);

// For the checks themselves: notes a failure, with the case in hand.
void Fail(const std::string& what);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_KERNELS_KERNEL_CHECKS_H_
