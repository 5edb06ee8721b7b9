// What the executor tells whoever counts: metrics/ implements it, so that the executor builds
// without prometheus-cpp. All calls come from the executor thread and must not block.
#ifndef ADAMOE_SERVER_REQUEST_STEP_OBSERVER_H_
#define ADAMOE_SERVER_REQUEST_STEP_OBSERVER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "server/request/usage.h"

namespace adamoe {

enum class StepPhase { kPrefill, kDecode, kMixed };

// What was run outside the experts.
struct OtherWork {
  uint64_t num_positions = 0;
  uint64_t num_keys_attended = 0;  // keys each position saw, its own included; sum over positions
  uint64_t num_logit_rows = 0;     // positions whose logits were computed
};

// One step of the executor, after its forward pass.
struct StepReport {
  StepPhase phase = StepPhase::kDecode;
  absl::Duration duration;
  // From the end of the last step's forward pass to the start of this one's: planning, sampling,
  // handing tokens over. Nothing when there was nothing to do in between.
  std::optional<absl::Duration> overhead = std::nullopt;
  uint32_t num_tokens = 0;         // positions run
  uint32_t num_prompt_tokens = 0;  // of which belong to prompts, run for the first time
  uint32_t num_cached_prompt_tokens =
      0;  // taken from the prefix cache by requests admitted in this step
  uint32_t num_generated_tokens = 0;
  uint32_t num_preemptions = 0;
  SlotCounts prefill_slots;  // of positions run as part of a prompt (or of a recomputation)
  SlotCounts decode_slots;   // of positions that each fed one generated token back
  OtherWork prefill_work;    // of the same positions as prefill_slots
  OtherWork decode_work;     // of the same positions as decode_slots
  std::vector<SlotCounts> layer_slots;  // [num_layers]
  std::vector<std::vector<uint32_t>>
      expert_tokens;  // [num_layers][num_experts] rows each expert ran
};

// State after a step, or after the last request has left.
struct LoadReport {
  uint32_t num_waiting = 0;
  uint32_t num_running = 0;
  uint32_t num_blocks = 0;
  uint32_t num_free_blocks = 0;  // blocks kept only for the prefix cache count as free
};

class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void OnStep(const StepReport& report) = 0;
  virtual void OnLoad(const LoadReport& load) = 0;
  // A request's first token, `since_submit` after its submission; `queue_time` of it was spent
  // waiting.
  virtual void OnFirstToken(absl::Duration since_submit) = 0;
  // A later token, `since_previous` after the one before it.
  virtual void OnNextToken(absl::Duration since_previous) = 0;
  // A generated token's true experts, mean over layers.
  virtual void OnTokenExperts(double mean_experts_per_layer) = 0;
  // A request was scheduled for the first time.
  virtual void OnAdmitted(absl::Duration queue_time) = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_STEP_OBSERVER_H_
