#include "server/model/step_input.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

absl::Status Broken(const char* field, int64_t index, int64_t value, int64_t limit) {
  return absl::InternalError(absl::StrCat("ForwardBatch.", field, "[", index, "] is ", value,
                                          ", expected less than ", limit, " and not negative"));
}

absl::Status CheckRange(const char* field, const std::vector<int32_t>& values, int64_t limit) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= limit) return Broken(field, i, values[i], limit);
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const ForwardBatch& batch) {
  const size_t num_tokens = batch.token_ids.size();
  const size_t num_sequences = batch.context_lens.size();
  const bool agree = num_tokens >= 1 && batch.positions.size() == num_tokens &&
                     batch.kv_slots.size() == num_tokens && batch.null_bias.size() == num_tokens &&
                     batch.max_experts.size() == num_tokens &&
                     batch.token_begin.size() == num_sequences + 1 &&
                     batch.block_tables.size() == num_sequences;
  if (!agree) return absl::InternalError("ForwardBatch: the sizes of its fields disagree");
  if (batch.token_begin.front() != 0 || batch.token_begin.back() != batch.num_tokens()) {
    return absl::InternalError("ForwardBatch.token_begin does not span the tokens");
  }
  return absl::OkStatus();
}

// One sequence: it has tokens, its positions end at its context, and its blocks cover that.
absl::Status CheckSequence(const ForwardBatch& batch, int32_t s,
                           const ModelDimensions& dimensions) {
  const int32_t begin = batch.token_begin[s];
  const int32_t end = batch.token_begin[s + 1];
  if (begin < 0 || begin >= end || end > batch.num_tokens()) {
    return absl::InternalError(absl::StrCat("ForwardBatch: sequence ", s, " has no tokens"));
  }
  const int64_t context = batch.context_lens[s];
  for (int32_t t = begin; t < end; ++t) {
    if (batch.positions[t] != context - (end - t)) {
      return absl::InternalError(absl::StrCat("ForwardBatch.positions[", t, "] is ",
                                              batch.positions[t], ", expected ",
                                              context - (end - t)));
    }
  }
  const auto& blocks = batch.block_tables[s];
  if (static_cast<int64_t>(blocks.size()) * dimensions.kv_block_size < context) {
    return absl::InternalError(absl::StrCat("ForwardBatch.block_tables[", s, "] has ",
                                            blocks.size(), " blocks for a context of ", context));
  }
  return CheckRange("block_tables[]", blocks, dimensions.num_kv_blocks);
}

absl::Status CheckBatch(const ForwardBatch& batch, const ModelDimensions& dimensions) {
  RETURN_IF_ERROR(CheckSizes(batch));
  const int64_t num_slots = int64_t{dimensions.num_kv_blocks} * dimensions.kv_block_size;
  RETURN_IF_ERROR(CheckRange("token_ids", batch.token_ids, dimensions.vocab_size));
  RETURN_IF_ERROR(CheckRange("positions", batch.positions, num_slots));
  RETURN_IF_ERROR(CheckRange("kv_slots", batch.kv_slots, num_slots));
  RETURN_IF_ERROR(CheckRange("logit_rows", batch.logit_rows, batch.num_tokens()));
  for (int32_t s = 0; s < batch.num_sequences(); ++s) {
    RETURN_IF_ERROR(CheckSequence(batch, s, dimensions));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StepInput::Load(const ForwardBatch& batch, const ModelDimensions& dimensions,
                             int32_t sliding_window) {
  RETURN_IF_ERROR(CheckBatch(batch, dimensions));
  batch_ = &batch;
  FlattenBlockTables();
  attention_.num_sequences = batch.num_sequences();
  attention_.token_begin = batch.token_begin.data();
  attention_.positions = batch.positions.data();
  attention_.block_tables = block_tables_.data();
  attention_.sliding_window = sliding_window;
  return absl::OkStatus();
}

void StepInput::FlattenBlockTables() {
  size_t max_blocks = 0;
  for (const auto& table : batch_->block_tables) max_blocks = std::max(max_blocks, table.size());
  block_tables_.assign(batch_->block_tables.size() * max_blocks, 0);
  auto row = block_tables_.begin();
  for (const auto& table : batch_->block_tables) {
    std::copy(table.begin(), table.end(), row);
    row += static_cast<std::ptrdiff_t>(max_blocks);
  }
  attention_.max_blocks = static_cast<int32_t>(max_blocks);
}

}  // namespace adamoe
