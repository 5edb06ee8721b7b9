// A ForwardBatch checked and laid out as the operations read it. Thread-compatible.
#ifndef ADAMOE_SERVER_MODEL_STEP_INPUT_H_
#define ADAMOE_SERVER_MODEL_STEP_INPUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/kernels/ops.h"
#include "server/model/model.h"

namespace adamoe {

class StepInput {
 public:
  // Takes in a batch, which must outlive the step. INTERNAL, naming the field, when the batch
  // breaks the contract of model.h: its numbers index memory, so a caller's mistake must not reach
  // the kernels.
  absl::Status Load(const ForwardBatch& batch, const ModelDimensions& dimensions,
                    int32_t sliding_window);

  const ForwardBatch& batch() const { return *batch_; }
  int32_t num_tokens() const { return batch_->num_tokens(); }
  const AttentionBatch& attention() const { return attention_; }

 private:
  void FlattenBlockTables();

  const ForwardBatch* batch_ = nullptr;
  AttentionBatch attention_;
  std::vector<int32_t> block_tables_;  // [num_sequences, attention_.max_blocks], padded with 0
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_STEP_INPUT_H_
