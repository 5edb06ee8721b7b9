#include "server/kernels/cpu/attend_inl.h"
#include "server/kernels/cpu/dot_sliced_inl.h"
#include "server/kernels/cpu/elementwise_inl.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/packed_dot_inl.h"

namespace adamoe {

const KernelTable kScalarKernels = {
    .dot = Dot,
    .dot_bf16 = nullptr,
    .dot_packed = PackedDot,
    .to_integers = ToIntegers,
    .widen = Widen,
    .narrow = Narrow,
    .round = Round,
    .silu_mul = SiluMul,
    .add_scaled = AddScaled,
    .rms_norm = RmsNorm,
    .attend = Attend,
};

}  // namespace adamoe
