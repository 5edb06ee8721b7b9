#include "server/kernels/cpu/kernels_inl.h"

namespace adamoe {

const KernelTable kAvx512Bf16Kernels = kKernels;

}  // namespace adamoe
