// What each request gets out of one step of the model: its next token, and what it asked to know
// about its prompt.
#ifndef ADAMOE_SERVER_EXECUTOR_STEP_OUTPUT_H_
#define ADAMOE_SERVER_EXECUTOR_STEP_OUTPUT_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/executor/active_request.h"
#include "server/executor/sampler.h"
#include "server/executor/step_batch.h"
#include "server/model/model.h"
#include "server/request/token_sink.h"

namespace adamoe {

// One entry of a plan, and where it lies in the batch.
struct StepPiece {
  ActiveRequest* request;
  int32_t token_begin;  // first of `num_tokens` positions in the batch
  int32_t num_tokens;
  int32_t row_begin;  // logit rows [row_begin, row_end) are this piece's, the last position's last
  int32_t row_end;
};

class StepOutput {
 public:
  // All must outlive the reader, and describe one step that passed CheckResult.
  StepOutput(const ModelDimensions* dimensions, const StepBatch* batch, const ForwardResult* result,
             Sampler::Scratch* scratch)
      : dimensions_(dimensions), batch_(batch), result_(result), scratch_(scratch) {}

  StepPiece PieceAt(size_t i, ActiveRequest* request) const;

  // Fills in the request's prompt_infos as far as this step knows them, and returns its next token
  // if the step ran its last position and tokens are wanted: one that its matcher, where it has
  // one, allows; none, and output_complete set, when that allows none. INTERNAL when the logits
  // describe no distribution, or as the matcher says. REQUIRES: the scheduler has committed the
  // step; nothing of it was appended to the request yet.
  absl::StatusOr<std::optional<TokenInfo>> Read(const StepPiece& piece) const;

 private:
  absl::Status FillPromptInfos(const StepPiece& piece) const;
  absl::Status Score(int32_t row, int32_t scored, ActiveRequest* request) const;
  TokenInfo Describe(const ActiveRequest& request, int32_t id, int32_t row, int32_t token) const;
  void AddExperts(const ActiveRequest& request, int32_t token, TokenInfo* info) const;
  absl::Span<const float> LogitsOfRow(int32_t row) const;  // [vocab]

  const ModelDimensions* const dimensions_;
  const StepBatch* const batch_;
  const ForwardResult* const result_;
  Sampler::Scratch* const scratch_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_EXECUTOR_STEP_OUTPUT_H_
