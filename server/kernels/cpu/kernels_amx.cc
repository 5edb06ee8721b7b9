#include "server/kernels/cpu/kernels_inl.h"

namespace adamoe {

const KernelTable kAmxKernels = kKernels;

}  // namespace adamoe
