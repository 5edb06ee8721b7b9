// AdaMoE's router on the CPU: plain scalar code, so that every instruction set picks the same
// experts.
#ifndef ADAMOE_SERVER_KERNELS_CPU_ROUTE_H_
#define ADAMOE_SERVER_KERNELS_CPU_ROUTE_H_

#include <cstdint>

#include "server/kernels/ops.h"

namespace adamoe {

// See Ops::Route. A logit that is not a number counts as probability 0.
void RouteTokens(const float* logits, int32_t num_tokens, const RouterParams& params,
                 Routing* routing);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_ROUTE_H_
