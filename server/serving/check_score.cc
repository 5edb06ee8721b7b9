#include "server/serving/check_score.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/field_checks.h"
#include "server/serving/request_errors.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

constexpr int kMaxContinuations = 1024;
constexpr size_t kMaxScoreBytes = 16 << 20;

// A context as text, with the space at its end that belongs to the continuations.
struct TextContext {
  std::string text;
  std::string trailing_space;
  size_t num_tokens = 0;
};

// Every text is tokenized together with the context, so much context times many texts is much work.
absl::Status CheckScoreBytes(const v1::ScoreRequest& proto) {
  size_t num_bytes = 0;
  for (const v1::Continuation& continuation : proto.continuations()) {
    if (!continuation.has_text()) continue;
    num_bytes += proto.context().size() + continuation.text().size();
  }
  if (num_bytes <= kMaxScoreBytes) return absl::OkStatus();
  return FieldError("continuations",
                    absl::StrCat(num_bytes, " bytes of context and text together, at most ",
                                 kMaxScoreBytes, " are allowed; send fewer at a time, or tokens"));
}

absl::StatusOr<std::vector<int32_t>> CheckContinuation(const v1::Continuation& proto,
                                                       const std::string& field,
                                                       const TextContext* context,
                                                       const Tokenizer& tokenizer,
                                                       const ServedModel& model) {
  if (proto.has_tokens()) return CheckIds(field + ".tokens.ids", proto.tokens().ids(), model);
  if (!proto.has_text()) return FieldError(field, "one of text and tokens must be set");
  if (context == nullptr)
    return FieldError(field + ".text", "a text needs context, not context_tokens");
  ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                   EncodeField(field + ".text",
                               absl::StrCat(context->text, context->trailing_space, proto.text()),
                               tokenizer, model));
  ids.erase(ids.begin(), ids.begin() + std::min(ids.size(), context->num_tokens));
  return ids;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> CheckContinuations(const v1::ScoreRequest& proto,
                                                                     const TextContext* text,
                                                                     size_t num_context_tokens,
                                                                     const Tokenizer& tokenizer,
                                                                     const ServedModel& model) {
  RETURN_IF_ERROR(CheckCount("continuations", proto.continuations_size(), kMaxContinuations));
  if (proto.continuations().empty())
    return FieldError("continuations", "none, at least one is needed");
  RETURN_IF_ERROR(CheckScoreBytes(proto));
  std::vector<std::vector<int32_t>> continuations;
  for (int i = 0; i < proto.continuations_size(); ++i) {
    const std::string field = absl::StrCat("continuations[", i, "]");
    ASSIGN_OR_RETURN(continuations.emplace_back(),
                     CheckContinuation(proto.continuations(i), field, text, tokenizer, model));
    const size_t num_tokens = continuations.back().size();
    if (num_tokens == 0)
      return FieldError(field, "adds no tokens to the context, at least one is needed");
    // The last one is not run.
    if (num_context_tokens + num_tokens - 1 > static_cast<size_t>(model.max_context_tokens)) {
      return FieldError(
          field, absl::StrCat(num_tokens, " tokens after the context's ", num_context_tokens,
                              ", the last not counted, do not fit the ", model.max_context_tokens,
                              " of the model's context"));
    }
  }
  return continuations;
}

}  // namespace

absl::StatusOr<CheckedScore> CheckScore(const v1::ScoreRequest& proto, const Tokenizer& tokenizer,
                                        const ServedModel& model) {
  CheckedScore checked;
  ASSIGN_OR_RETURN(checked.id, CheckRequestId(proto.request_id()));
  ASSIGN_OR_RETURN(checked.compute, CheckCompute(proto.compute()));
  TextContext text;
  const bool is_text = proto.has_context();
  if (is_text) {
    const size_t num_sure = proto.context().size() - TrailingSpaceBytes(proto.context());
    text.text = proto.context().substr(0, num_sure);
    text.trailing_space = proto.context().substr(num_sure);
    ASSIGN_OR_RETURN(checked.context, EncodeField("context", text.text, tokenizer, model));
    text.num_tokens = checked.context.size();
  } else if (proto.has_context_tokens()) {
    ASSIGN_OR_RETURN(checked.context,
                     CheckIds("context_tokens.ids", proto.context_tokens().ids(), model));
  } else {
    return FieldError("input", "one of context and context_tokens must be set");
  }
  const char* const field = is_text ? "context" : "context_tokens";
  RETURN_IF_ERROR(CheckNotEmpty(field, checked.context.size()));
  if (checked.context.size() > static_cast<size_t>(model.max_context_tokens)) {
    return FieldError(field, absl::StrCat(checked.context.size(), " tokens do not fit the ",
                                          model.max_context_tokens, " of the model's context"));
  }
  ASSIGN_OR_RETURN(checked.continuations,
                   CheckContinuations(proto, is_text ? &text : nullptr, checked.context.size(),
                                      tokenizer, model));
  return checked;
}

}  // namespace adamoe
