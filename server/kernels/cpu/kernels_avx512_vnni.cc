#include "server/kernels/cpu/kernels_inl.h"

namespace adamoe {

const KernelTable kAvx512VnniKernels = kKernels;

}  // namespace adamoe
