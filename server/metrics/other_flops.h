// FLOPs of everything but the experts, from what the steps ran: two per multiply-add of the
// attention's projections, its scores and weighted sums, the routers and the output head. They are
// the same with and without null experts, so the whole model's saving is what adding them to both
// sides leaves of the experts'. Pure arithmetic.
#ifndef ADAMOE_SERVER_METRICS_OTHER_FLOPS_H_
#define ADAMOE_SERVER_METRICS_OTHER_FLOPS_H_

#include <cstdint>

#include "server/request/step_observer.h"

namespace adamoe {

struct OtherFlops {
  uint64_t projections = 0;
  uint64_t attention = 0;
  uint64_t router = 0;
  uint64_t lm_head = 0;
};

// Over all layers.
struct OtherFlopsRates {
  uint64_t projections = 0;        // per position
  uint64_t attention_per_key = 0;  // per position and key it attends to
  uint64_t router = 0;             // per position
  uint64_t lm_head = 0;            // per position whose logits are computed

  OtherFlops Of(const OtherWork& work) const {
    return {work.num_positions * projections, work.num_keys_attended * attention_per_key,
            work.num_positions * router, work.num_logit_rows * lm_head};
  }
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_METRICS_OTHER_FLOPS_H_
