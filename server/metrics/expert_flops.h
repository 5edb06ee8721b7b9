// FLOPs of the experts, from slots: two per multiply-add over w1, w3 and w2. Definitions: "What is
// counted" in README.md. Pure arithmetic.
#ifndef ADAMOE_SERVER_METRICS_EXPERT_FLOPS_H_
#define ADAMOE_SERVER_METRICS_EXPERT_FLOPS_H_

#include <cstdint>

#include "server/request/usage.h"

namespace adamoe {

struct ExpertFlops {
  uint64_t executed = 0;  // of the true slots run
  uint64_t saved = 0;     // what the null and dropped slots would have cost
  uint64_t baseline = 0;  // what the plain top-2 model would have cost for the same positions
};

struct ExpertFlopsRates {
  uint64_t per_slot = 0;                    // 6 x hidden x intermediate
  uint32_t experts_per_token = 1;           // k: every position and layer has so many slots
  uint32_t baseline_experts_per_token = 2;  // k of the plain model

  ExpertFlops Of(const SlotCounts& slots) const {
    const uint64_t not_run = slots.null_slots + slots.dropped_slots;
    const uint64_t position_layers = (slots.true_slots + not_run) / experts_per_token;
    return {slots.true_slots * per_slot, not_run * per_slot,
            position_layers * baseline_experts_per_token * per_slot};
  }
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_METRICS_EXPERT_FLOPS_H_
