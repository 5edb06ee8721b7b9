// The true experts of one layer over a routed batch, on the CPU.
#ifndef ADAMOE_SERVER_KERNELS_CPU_EXPERTS_H_
#define ADAMOE_SERVER_KERNELS_CPU_EXPERTS_H_

#include <cstdint>

#include "server/kernels/cpu/product.h"
#include "server/kernels/ops.h"

namespace adamoe {

// See Ops::Experts.
void RunExperts(const CpuContext& context, const ExpertWeights* experts, const Routing& routing,
                const float* x, int64_t num_tokens, float* out, uint8_t* executed);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_EXPERTS_H_
