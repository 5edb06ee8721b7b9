#include "server/kernels/cpu/kernels_inl.h"

namespace adamoe {

const KernelTable kAvx512Kernels = kKernels;

}  // namespace adamoe
