// All kernels of the instruction set a file is compiled for. Included only by kernels_<isa>.cc (see
// simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_KERNELS_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_KERNELS_INL_H_

#include "server/kernels/cpu/attend_inl.h"
#include "server/kernels/cpu/dot_sliced_inl.h"
#include "server/kernels/cpu/elementwise_inl.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/packed_dot_inl.h"
#if defined(__AMX_BF16__)
#include "server/kernels/cpu/tile_dot_inl.h"
#endif

namespace adamoe {
namespace {

constexpr KernelTable kKernels = {
    .dot = Dot,
#if defined(__AVX512BF16__)
    .dot_bf16 = DotBf16,
#else
    .dot_bf16 = nullptr,
#endif
#if defined(__AMX_BF16__)
    .dot_tiles = DotTiles,
    .to_tiles = ToTiles,
#else
    .dot_tiles = nullptr,
    .to_tiles = nullptr,
#endif
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

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_KERNELS_INL_H_
