// Turns a StepPlan into what the model takes, and what the model counted into slots.
#ifndef ADAMOE_SERVER_EXECUTOR_STEP_BATCH_H_
#define ADAMOE_SERVER_EXECUTOR_STEP_BATCH_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/executor/active_request.h"
#include "server/model/model.h"
#include "server/request/usage.h"
#include "server/scheduler/scheduler.h"

namespace adamoe {

struct StepBatch {
  ForwardBatch forward;  // one sequence per entry of the plan, in its order
  // [plan.work.size() + 1], first entry of forward.logit_rows that belongs to each piece of work,
  // then their number.
  std::vector<int32_t> row_begin;
};

// Fills *batch (whose vectors are reused from step to step). REQUIRES: `requests` holds every
// sequence of the plan.
void BuildStepBatch(const StepPlan& plan, const ActiveRequests& requests, int32_t block_size,
                    StepBatch* batch);

// The check that the counting rests on: for every position and layer, the rows that the expert
// kernels ran and the slots that the router skipped make up its k picks. INTERNAL when they do not,
// naming the layer with the rows executed and routed, or when a result has not the shape the batch
// asks for.
absl::Status CheckResult(const ForwardBatch& batch, const ForwardResult& result,
                         const ModelDimensions& dimensions);

// Keys that positions [begin, end) of a sequence see, together. `window`: how many each sees at
// most, its own included; 0: all.
uint64_t KeysAttended(int32_t begin, int32_t end, int32_t window);

// Slots of one position in one layer. REQUIRES: CheckResult.
inline SlotCounts SlotsAt(const ForwardResult& result, int32_t num_layers, int32_t token,
                          int32_t layer) {
  const size_t i = static_cast<size_t>(token) * num_layers + layer;
  return {result.executed[i], result.null_slots[i], result.dropped[i]};
}

// Slots of positions [begin, end) of the batch, over all layers. REQUIRES: CheckResult.
SlotCounts SumSlots(const ForwardResult& result, int32_t num_layers, int32_t begin, int32_t end);

// Slots of every layer, over all positions: [num_layers]. REQUIRES: CheckResult.
std::vector<SlotCounts> SumSlotsByLayer(const ForwardResult& result, int32_t num_layers,
                                        int32_t num_tokens);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_EXECUTOR_STEP_BATCH_H_
