#include "server/executor/step_output.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/executor/logits.h"

namespace adamoe {
namespace {

// `status` with where it happened in front.
absl::Status At(const char* where, int64_t index, const absl::Status& status) {
  return absl::InternalError(absl::StrCat(where, " ", index, ": ", status.message()));
}

}  // namespace

StepPiece StepOutput::PieceAt(size_t i, ActiveRequest* request) const {
  const int32_t begin = batch_->forward.token_begin[i];
  return {request, begin, batch_->forward.token_begin[i + 1] - begin, batch_->row_begin[i],
          batch_->row_begin[i + 1]};
}

absl::StatusOr<std::optional<TokenInfo>> StepOutput::Read(const StepPiece& piece) const {
  const ActiveRequest& request = *piece.request;
  if (request.owes_prompt_infos()) RETURN_IF_ERROR(FillPromptInfos(piece));
  if (!request.ran_every_token() || request.max_output_tokens == 0) return std::nullopt;
  const int32_t row = piece.row_end - 1;
  TokenMask allowed;
  if (TokenMatcher* const matcher = request.request->matcher.get(); matcher != nullptr) {
    ASSIGN_OR_RETURN(allowed, matcher->Allowed());
    const auto none = [](uint32_t word) { return word == 0; };
    piece.request->output_complete = std::all_of(allowed.begin(), allowed.end(), none);
    if (piece.request->output_complete) return std::nullopt;
  }
  const absl::StatusOr<int32_t> id = request.sampler.Sample(LogitsOfRow(row), allowed, scratch_);
  if (!id.ok()) return At("output token", request.num_output_tokens(), id.status());
  return Describe(request, *id, row, piece.token_begin + piece.num_tokens - 1);
}

// Position i's experts come from running i, its log-probability from the logits of i - 1.
absl::Status StepOutput::FillPromptInfos(const StepPiece& piece) const {
  ActiveRequest* request = piece.request;
  const ForwardBatch& forward = batch_->forward;
  for (int32_t token = piece.token_begin; token < piece.token_begin + piece.num_tokens; ++token) {
    const int32_t position = forward.positions[token];
    if (TokenInfo* info = request->PromptInfoAt(position)) {
      info->id = forward.token_ids[token];
      AddExperts(*request, token, info);
    }
  }
  for (int32_t row = piece.row_begin; row < piece.row_end; ++row) {
    const int32_t scored = forward.positions[forward.logit_rows[row]] + 1;
    if (request->PromptInfoAt(scored) == nullptr) continue;
    if (const absl::Status status = Score(row, scored, request); !status.ok()) {
      return At("prompt position", scored, status);
    }
  }
  return absl::OkStatus();
}

absl::Status StepOutput::Score(int32_t row, int32_t scored, ActiveRequest* request) const {
  const absl::Span<const float> logits = LogitsOfRow(row);
  RETURN_IF_ERROR(CheckLogits(logits));
  const float sum = LogSumExp(logits);
  TokenInfo* info = request->PromptInfoAt(scored);
  info->id = request->ScoredToken(scored);
  info->logprob = logits[info->id] - sum;
  info->top_logprobs = TopLogprobs(logits, sum, request->request->num_top_logprobs.value_or(0));
  return absl::OkStatus();
}

TokenInfo StepOutput::Describe(const ActiveRequest& request, int32_t id, int32_t row,
                               int32_t token) const {
  TokenInfo info;
  info.id = id;
  AddExperts(request, token, &info);
  if (!request.request->num_top_logprobs) return info;
  const absl::Span<const float> logits = LogitsOfRow(row);
  const float sum = LogSumExp(logits);
  info.logprob = logits[id] - sum;
  info.top_logprobs = TopLogprobs(logits, sum, *request.request->num_top_logprobs);
  return info;
}

void StepOutput::AddExperts(const ActiveRequest& request, int32_t token, TokenInfo* info) const {
  const auto begin = result_->executed.begin() + int64_t{token} * dimensions_->num_layers;
  const auto end = begin + dimensions_->num_layers;
  info->experts = std::accumulate(begin, end, uint32_t{0});
  if (request.request->experts_per_layer) info->experts_per_layer.assign(begin, end);
}

absl::Span<const float> StepOutput::LogitsOfRow(int32_t row) const {
  const size_t vocab_size = dimensions_->vocab_size;
  return absl::MakeConstSpan(result_->logits).subspan(row * vocab_size, vocab_size);
}

}  // namespace adamoe
