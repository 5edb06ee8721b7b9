#include "server/kernels/cpu/kernels_inl.h"

namespace adamoe {

const KernelTable kScalarKernels = kKernels;

}  // namespace adamoe
