#include "server/kernels/cpu/kernels_inl.h"

namespace adamoe {

const KernelTable kAvx2Kernels = kKernels;

}  // namespace adamoe
