#include "server/serving/validation.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"
#include "server/serving/utf8.h"
#include "server/tokenizer/chat_format.h"

namespace adamoe {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr uint32_t kDefaultMaxTokens = 256;
constexpr uint32_t kMaxLogprobs = 20;
constexpr int kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxStopTokenIds = 64;
constexpr size_t kMaxLogitBiases = 1024;
constexpr int kMaxContinuations = 1024;
constexpr size_t kMaxScoreBytes = 16 << 20;
constexpr float kMaxLogitBias = 100;
constexpr float kMaxNullBias = 1000;

using Ids = google::protobuf::RepeatedField<uint32_t>;

// A number that must lie in [min, max], or in (min, max].
struct Range {
  const char* field;
  float value;
  float min;
  float max;
  bool min_excluded = false;
};

absl::Status Check(const Range& range) {
  // Written so that NaN fails.
  const bool above = range.min_excluded ? range.value > range.min : range.value >= range.min;
  if (above && range.value <= range.max) return absl::OkStatus();
  return FieldError(range.field,
                    absl::StrCat(range.value, " is not in ", range.min_excluded ? "(" : "[",
                                 range.min, ", ", range.max, "]"));
}

absl::Status CheckCount(absl::string_view field, size_t count, size_t max) {
  if (count <= max) return absl::OkStatus();
  return FieldError(field, absl::StrCat(count, " entries, at most ", max, " are allowed"));
}

absl::Status CheckId(absl::string_view field, uint32_t id, const ServedModel& model) {
  if (id < static_cast<uint32_t>(model.vocab_size)) return absl::OkStatus();
  return FieldError(field,
                    absl::StrCat("token id ", id, " is not below vocab_size ", model.vocab_size));
}

absl::StatusOr<std::vector<int32_t>> CheckIds(absl::string_view field, const Ids& ids,
                                              const ServedModel& model) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < static_cast<uint32_t>(model.vocab_size)) continue;
    return CheckId(absl::StrCat(field, "[", i, "]"), ids[i], model);
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

// What cannot fit is not worth the time that tokenizing it takes.
absl::Status CheckTextBytes(absl::string_view field, size_t num_bytes, const ServedModel& model) {
  if (model.max_text_bytes == 0 || num_bytes <= model.max_text_bytes) return absl::OkStatus();
  return FieldError(field, absl::StrCat(num_bytes, " bytes of text cannot fit the context of ",
                                        model.max_context_tokens, " tokens"));
}

// Tokens of a text, which the model must know too: a folder's tokenizer may be larger than its
// model.
absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view field, absl::string_view text,
                                            const Tokenizer& tokenizer, const ServedModel& model) {
  RETURN_IF_ERROR(CheckTextBytes(field, text.size(), model));
  auto ids = tokenizer.Encode(text, {});
  if (!ids.ok()) return FieldError(field, ids.status());
  for (const int32_t id : *ids) RETURN_IF_ERROR(CheckId(field, id, model));
  return ids;
}

absl::StatusOr<std::string> CheckRequestId(const std::string& id) {
  if (id.size() > kMaxRequestIdBytes) {
    return FieldError("request_id", absl::StrCat(id.size(), " bytes, at most ", kMaxRequestIdBytes,
                                                 " are allowed"));
  }
  if (!id.empty()) return id;
  static const uint32_t process = std::random_device()();
  static std::atomic<uint64_t> next{1};
  return absl::StrCat("req-", absl::Hex(process, absl::kZeroPad8), "-", next.fetch_add(1));
}

uint64_t RandomSeed() {
  thread_local std::mt19937_64 generator((static_cast<uint64_t>(std::random_device()()) << 32) ^
                                         std::random_device()());
  return generator();
}

absl::StatusOr<ComputeDial> CheckCompute(const v1::Compute& compute) {
  RETURN_IF_ERROR(Check({"compute.null_bias", compute.null_bias(), -kMaxNullBias, kMaxNullBias}));
  if (compute.has_max_experts_per_token() && compute.max_experts_per_token() == 0) {
    return FieldError("compute.max_experts_per_token", "0 is not at least 1");
  }
  return ComputeDial{compute.null_bias(), compute.max_experts_per_token()};
}

absl::StatusOr<std::vector<int32_t>> CheckInput(const v1::GenerateRequest& proto,
                                                const Tokenizer& tokenizer,
                                                const ServedModel& model) {
  switch (proto.input_case()) {
    case v1::GenerateRequest::kPrompt:
      return Encode("prompt", proto.prompt(), tokenizer, model);
    case v1::GenerateRequest::kPromptTokens:
      return CheckIds("prompt_tokens.ids", proto.prompt_tokens().ids(), model);
    case v1::GenerateRequest::kMessages: {
      std::vector<ChatMessage> messages;
      size_t num_bytes = 0;
      for (const auto& message : proto.messages().messages()) {
        messages.push_back({message.role(), message.content()});
        num_bytes += message.content().size();
      }
      RETURN_IF_ERROR(CheckTextBytes("messages", num_bytes, model));
      auto ids = EncodeChat(tokenizer, messages);
      if (!ids.ok()) return FieldError("messages", ids.status());
      for (const int32_t id : *ids) RETURN_IF_ERROR(CheckId("messages", id, model));
      return ids;
    }
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return FieldError("input", "one of prompt, prompt_tokens and messages must be set");
}

const char* InputName(const v1::GenerateRequest& proto) {
  if (proto.has_prompt()) return "prompt";
  return proto.has_prompt_tokens() ? "prompt_tokens" : "messages";
}

absl::Status CheckNotEmpty(const char* field, size_t num_tokens) {
  if (num_tokens > 0) return absl::OkStatus();
  return FieldError(field, "no tokens, at least one is needed");
}

absl::Status CheckPromptLength(const char* field, size_t num_tokens, const ServedModel& model) {
  RETURN_IF_ERROR(CheckNotEmpty(field, num_tokens));
  const size_t max = model.max_context_tokens - 1;
  if (num_tokens <= max) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat(num_tokens, " tokens, at most ", max,
                          " leave room for output in the context of ", model.max_context_tokens));
}

// max_tokens and min_tokens. REQUIRES: the prompt leaves room for a token.
absl::Status CheckLengths(const v1::Sampling& proto, uint32_t num_prompt_tokens,
                          const ServedModel& model, SamplingParams& params) {
  const uint32_t left = model.max_context_tokens - num_prompt_tokens;
  const uint32_t unless_said = proto.fill_context() ? left : std::min(kDefaultMaxTokens, left);
  params.max_tokens = proto.has_max_tokens() ? proto.max_tokens() : unless_said;
  if (params.max_tokens == 0 || params.max_tokens > left) {
    return FieldError("sampling.max_tokens",
                      absl::StrCat(params.max_tokens, " is not in [1, ", left, "]: the prompt's ",
                                   num_prompt_tokens, " tokens leave ", left, " of the context of ",
                                   model.max_context_tokens));
  }
  params.min_tokens = proto.min_tokens();
  if (params.min_tokens > params.max_tokens) {
    return FieldError("sampling.min_tokens", absl::StrCat(params.min_tokens, " is not in [0, ",
                                                          params.max_tokens, "], max_tokens"));
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const v1::Sampling& proto, SamplingParams& params) {
  params.temperature = proto.has_temperature() ? proto.temperature() : 1.0f;
  params.top_k = proto.top_k();
  params.top_p = proto.has_top_p() ? proto.top_p() : 1.0f;
  params.min_p = proto.min_p();
  params.repetition_penalty = proto.has_repetition_penalty() ? proto.repetition_penalty() : 1.0f;
  params.presence_penalty = proto.presence_penalty();
  params.frequency_penalty = proto.frequency_penalty();
  const Range ranges[] = {
      {"sampling.temperature", params.temperature, 0, 100},
      {"sampling.top_p", params.top_p, 0, 1, /*min_excluded=*/true},
      {"sampling.min_p", params.min_p, 0, 1},
      {"sampling.repetition_penalty", params.repetition_penalty, 0, 100, /*min_excluded=*/true},
      {"sampling.presence_penalty", params.presence_penalty, -2, 2},
      {"sampling.frequency_penalty", params.frequency_penalty, -2, 2},
  };
  for (const Range& range : ranges) RETURN_IF_ERROR(Check(range));
  return absl::OkStatus();
}

absl::Status CheckStops(const v1::Sampling& proto) {
  RETURN_IF_ERROR(CheckCount("sampling.stop", proto.stop_size(), kMaxStops));
  for (int i = 0; i < proto.stop_size(); ++i) {
    const size_t size = proto.stop(i).size();
    if (size >= 1 && size <= kMaxStopBytes) continue;
    return FieldError(absl::StrCat("sampling.stop[", i, "]"),
                      absl::StrCat(size, " bytes is not in [1, ", kMaxStopBytes, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckTokenLists(const v1::Sampling& proto, const ServedModel& model,
                             SamplingParams& params) {
  RETURN_IF_ERROR(
      CheckCount("sampling.stop_token_ids", proto.stop_token_ids_size(), kMaxStopTokenIds));
  ASSIGN_OR_RETURN(params.stop_token_ids,
                   CheckIds("sampling.stop_token_ids", proto.stop_token_ids(), model));
  if (!proto.ignore_eos()) {
    params.stop_token_ids.insert(params.stop_token_ids.end(), model.eos_token_ids.begin(),
                                 model.eos_token_ids.end());
  }
  RETURN_IF_ERROR(CheckCount("sampling.logit_bias", proto.logit_bias().size(), kMaxLogitBiases));
  for (const auto& [id, bias] : proto.logit_bias()) {
    const std::string field = absl::StrCat("sampling.logit_bias[", id, "]");
    RETURN_IF_ERROR(CheckId(field, id, model));
    RETURN_IF_ERROR(Check({field.c_str(), bias, -kMaxLogitBias, kMaxLogitBias}));
    params.logit_bias.emplace_back(static_cast<int32_t>(id), bias);
  }
  return absl::OkStatus();
}

absl::StatusOr<SamplingParams> CheckSampling(const v1::Sampling& proto, uint32_t num_prompt_tokens,
                                             const ServedModel& model) {
  SamplingParams params;
  RETURN_IF_ERROR(CheckLengths(proto, num_prompt_tokens, model, params));
  RETURN_IF_ERROR(CheckNumbers(proto, params));
  RETURN_IF_ERROR(CheckStops(proto));
  RETURN_IF_ERROR(CheckTokenLists(proto, model, params));
  params.seed = proto.has_seed() ? proto.seed() : RandomSeed();
  return params;
}

absl::Status CheckGrammarBytes(absl::string_view field, size_t num_bytes) {
  if (num_bytes >= 1 && num_bytes <= kMaxGrammarBytes) return absl::OkStatus();
  return FieldError(field, absl::StrCat(num_bytes, " bytes is not in [1, ", kMaxGrammarBytes, "]"));
}

absl::Status CheckChoice(const v1::Choice& choice, StructuredOutput& structured) {
  const std::string field = absl::StrCat(FieldOf(structured), ".choices");
  if (choice.choices().empty()) return FieldError(field, "none, at least one is needed");
  RETURN_IF_ERROR(CheckCount(field, choice.choices_size(), kMaxChoices));
  size_t num_bytes = 0;
  for (int i = 0; i < choice.choices_size(); ++i) {
    if (choice.choices(i).empty()) {
      return FieldError(absl::StrCat(field, "[", i, "]"), "is empty, at least a byte is needed");
    }
    num_bytes += choice.choices(i).size();
  }
  RETURN_IF_ERROR(CheckGrammarBytes(field, num_bytes));
  structured.choices.assign(choice.choices().begin(), choice.choices().end());
  return absl::OkStatus();
}

// Whether the text means anything shows when it is compiled.
absl::StatusOr<StructuredOutput> CheckStructured(const v1::StructuredOutput& proto) {
  StructuredOutput structured;
  switch (proto.form_case()) {
    case v1::StructuredOutput::kJsonSchema:
      structured = {StructuredOutput::Kind::kJsonSchema, proto.json_schema(), {}};
      break;
    case v1::StructuredOutput::kRegex:
      structured = {StructuredOutput::Kind::kRegex, proto.regex(), {}};
      break;
    case v1::StructuredOutput::kGrammar:
      structured = {StructuredOutput::Kind::kGrammar, proto.grammar(), {}};
      break;
    case v1::StructuredOutput::kChoice:
      structured.kind = StructuredOutput::Kind::kChoice;
      RETURN_IF_ERROR(CheckChoice(proto.choice(), structured));
      return structured;
    case v1::StructuredOutput::kJsonObject:
      if (proto.json_object()) return structured;
      return FieldError("structured.json_object", "false: leave structured out for any text");
    case v1::StructuredOutput::FORM_NOT_SET:
      return FieldError("structured",
                        "one of json_schema, regex, grammar, choice and json_object must be set");
  }
  RETURN_IF_ERROR(CheckGrammarBytes(FieldOf(structured), structured.text.size()));
  return structured;
}

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
  ASSIGN_OR_RETURN(
      std::vector<int32_t> ids,
      Encode(field + ".text", absl::StrCat(context->text, context->trailing_space, proto.text()),
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

absl::string_view FieldOf(const StructuredOutput& structured) {
  switch (structured.kind) {
    case StructuredOutput::Kind::kJsonObject:
      return "structured.json_object";
    case StructuredOutput::Kind::kJsonSchema:
      return "structured.json_schema";
    case StructuredOutput::Kind::kRegex:
      return "structured.regex";
    case StructuredOutput::Kind::kGrammar:
      return "structured.grammar";
    case StructuredOutput::Kind::kChoice:
      break;
  }
  return "structured.choice";
}

absl::StatusOr<CheckedGenerate> CheckGenerate(const v1::GenerateRequest& proto,
                                              const Tokenizer& tokenizer,
                                              const ServedModel& model) {
  CheckedGenerate checked = {std::make_unique<Request>(), {}};
  Request& request = *checked.request;
  ASSIGN_OR_RETURN(request.id, CheckRequestId(proto.request_id()));
  ASSIGN_OR_RETURN(request.prompt, CheckInput(proto, tokenizer, model));
  RETURN_IF_ERROR(CheckPromptLength(InputName(proto), request.prompt.size(), model));
  const auto num_prompt_tokens = static_cast<uint32_t>(request.prompt.size());
  ASSIGN_OR_RETURN(request.sampling, CheckSampling(proto.sampling(), num_prompt_tokens, model));
  checked.stops.assign(proto.sampling().stop().begin(), proto.sampling().stop().end());
  if (proto.logprobs() > kMaxLogprobs) {
    return FieldError("logprobs",
                      absl::StrCat(proto.logprobs(), " is not in [0, ", kMaxLogprobs, "]"));
  }
  if (proto.has_logprobs()) {
    request.num_top_logprobs = std::min(proto.logprobs(), static_cast<uint32_t>(model.vocab_size));
  }
  if (proto.prompt_logprobs()) request.prompt_info_from = 0;
  ASSIGN_OR_RETURN(request.compute, CheckCompute(proto.compute()));
  request.priority = proto.priority();
  request.experts_per_layer = proto.experts_per_layer();
  if (proto.has_structured()) {
    ASSIGN_OR_RETURN(request.structured, CheckStructured(proto.structured()));
  }
  return checked;
}

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
    ASSIGN_OR_RETURN(checked.context, Encode("context", text.text, tokenizer, model));
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
