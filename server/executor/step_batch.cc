#include "server/executor/step_batch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

void Clear(StepBatch* batch) {
  ForwardBatch& forward = batch->forward;
  forward.token_ids.clear();
  forward.positions.clear();
  forward.kv_slots.clear();
  forward.null_bias.clear();
  forward.max_experts.clear();
  forward.token_begin.assign(1, 0);
  forward.context_lens.clear();
  forward.block_tables.clear();
  forward.logit_rows.clear();
  batch->row_begin.assign(1, 0);
}

void AppendPosition(const ActiveRequest& request, int32_t position, int32_t block_size,
                    ForwardBatch* forward) {
  const Sequence& sequence = request.sequence;
  if (request.WantsLogits(position)) forward->logit_rows.push_back(forward->num_tokens());
  forward->token_ids.push_back(sequence.tokens[position]);
  forward->positions.push_back(position);
  forward->kv_slots.push_back(sequence.blocks[position / block_size] * block_size +
                              position % block_size);
  forward->null_bias.push_back(request.request->compute.null_bias);
  forward->max_experts.push_back(request.request->compute.max_experts_per_token);
}

absl::Status CheckSize(const char* what, size_t got, size_t want) {
  if (got == want) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the model's ", what, " hold ", got, " entries, not ", want));
}

// For entry `i` of the counts, [num_tokens, num_layers], whose slots are not k.
absl::Status MismatchAt(const ForwardResult& result, const ModelDimensions& dimensions, size_t i) {
  const int num_skipped = result.null_slots[i] + result.dropped[i];
  return absl::InternalError(absl::StrCat(
      "slots do not add up in layer ", i % dimensions.num_layers, ": rows executed ",
      int{result.executed[i]}, ", rows routed ", dimensions.experts_per_token - num_skipped,
      " (token ", i / dimensions.num_layers, " of the batch)"));
}

}  // namespace

void BuildStepBatch(const StepPlan& plan, const ActiveRequests& requests, int32_t block_size,
                    StepBatch* batch) {
  Clear(batch);
  ForwardBatch& forward = batch->forward;
  for (const PlannedWork& work : plan.work) {
    const ActiveRequest& request = *requests.at(work.sequence->id);
    const int32_t end = work.begin + work.count;
    for (int32_t position = work.begin; position < end; ++position) {
      AppendPosition(request, position, block_size, &forward);
    }
    forward.token_begin.push_back(forward.num_tokens());
    forward.context_lens.push_back(end);
    const auto blocks = work.sequence->blocks.begin();
    forward.block_tables.emplace_back(blocks, blocks + (end + block_size - 1) / block_size);
    batch->row_begin.push_back(static_cast<int32_t>(forward.logit_rows.size()));
  }
}

absl::Status CheckResult(const ForwardBatch& batch, const ForwardResult& result,
                         const ModelDimensions& dimensions) {
  const int32_t num_layers = dimensions.num_layers;
  const size_t num_counts = static_cast<size_t>(batch.num_tokens()) * num_layers;
  const size_t num_experts = static_cast<size_t>(num_layers) * dimensions.num_experts;
  const size_t num_logits = batch.logit_rows.size() * dimensions.vocab_size;
  RETURN_IF_ERROR(CheckSize("logits", result.logits.size(), num_logits));
  RETURN_IF_ERROR(CheckSize("executed slots", result.executed.size(), num_counts));
  RETURN_IF_ERROR(CheckSize("null slots", result.null_slots.size(), num_counts));
  RETURN_IF_ERROR(CheckSize("dropped slots", result.dropped.size(), num_counts));
  RETURN_IF_ERROR(CheckSize("expert rows", result.expert_rows.size(), num_experts));
  for (size_t i = 0; i < num_counts; ++i) {
    const int slots = result.executed[i] + result.null_slots[i] + result.dropped[i];
    if (slots != dimensions.experts_per_token) return MismatchAt(result, dimensions, i);
  }
  return absl::OkStatus();
}

uint64_t KeysAttended(int32_t begin, int32_t end, int32_t window) {
  uint64_t keys = 0;
  for (int32_t position = begin; position < end; ++position) {
    keys += window > 0 ? std::min(position + 1, window) : position + 1;
  }
  return keys;
}

SlotCounts SumSlots(const ForwardResult& result, int32_t num_layers, int32_t begin, int32_t end) {
  SlotCounts sum;
  for (int32_t token = begin; token < end; ++token) {
    for (int32_t layer = 0; layer < num_layers; ++layer) {
      sum += SlotsAt(result, num_layers, token, layer);
    }
  }
  return sum;
}

std::vector<SlotCounts> SumSlotsByLayer(const ForwardResult& result, int32_t num_layers,
                                        int32_t num_tokens) {
  std::vector<SlotCounts> sums(num_layers);
  for (int32_t token = 0; token < num_tokens; ++token) {
    for (int32_t layer = 0; layer < num_layers; ++layer) {
      sums[layer] += SlotsAt(result, num_layers, token, layer);
    }
  }
  return sums;
}

}  // namespace adamoe
