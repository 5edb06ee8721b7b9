#include "server/kernels/cpu/attend_inl.h"
#include "server/kernels/cpu/dot_inl.h"
#include "server/kernels/cpu/elementwise_inl.h"
#include "server/kernels/cpu/kernel_table.h"

namespace adamoe {

const KernelTable kAvx2Kernels = {
    .dot = Dot,
    .dot_bf16 = nullptr,
    .widen = Widen,
    .narrow = Narrow,
    .round = Round,
    .silu_mul = SiluMul,
    .add_scaled = AddScaled,
    .rms_norm = RmsNorm,
    .attend = Attend,
};

}  // namespace adamoe
