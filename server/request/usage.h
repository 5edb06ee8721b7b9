// What a request cost: definitions in README.md ("What is counted"). Plain values.
#ifndef ADAMOE_SERVER_REQUEST_USAGE_H_
#define ADAMOE_SERVER_REQUEST_USAGE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace adamoe {

// Router picks of the positions a request had run, over all layers. slots = k x layers x positions,
// and slots = true + null + dropped.
struct SlotCounts {
  uint64_t true_slots = 0;     // rows the expert kernels executed
  uint64_t null_slots = 0;     // picks of null experts: no work
  uint64_t dropped_slots = 0;  // true picks cut by max_experts_per_token: no work

  SlotCounts& operator+=(const SlotCounts& other) {
    true_slots += other.true_slots;
    null_slots += other.null_slots;
    dropped_slots += other.dropped_slots;
    return *this;
  }
  bool operator==(const SlotCounts&) const = default;
};

struct Usage {
  uint32_t prompt_tokens = 0;         // Request::scored_next_token counts
  uint32_t completion_tokens = 0;     // a stop token counts
  uint32_t cached_prompt_tokens = 0;  // taken from the prefix cache: not run, no slots
  uint64_t positions = 0;             // run through the model; recomputed ones count again
  SlotCounts slots;
  absl::Duration queue_time;    // submission to first scheduled
  absl::Duration prefill_time;  // first scheduled to first token
  absl::Duration decode_time;   // first token to last
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_USAGE_H_
