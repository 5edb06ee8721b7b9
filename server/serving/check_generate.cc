#include "server/serving/check_generate.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/check_sampling.h"
#include "server/serving/field_checks.h"
#include "server/serving/request_errors.h"
#include "server/tokenizer/chat_format.h"

namespace adamoe {
namespace {

constexpr uint32_t kMaxLogprobs = 20;

absl::StatusOr<std::vector<int32_t>> CheckInput(const v1::GenerateRequest& proto,
                                                const Tokenizer& tokenizer,
                                                const ServedModel& model) {
  switch (proto.input_case()) {
    case v1::GenerateRequest::kPrompt:
      return EncodeField("prompt", proto.prompt(), tokenizer, model);
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

absl::Status CheckPromptLength(const char* field, size_t num_tokens, const ServedModel& model) {
  RETURN_IF_ERROR(CheckNotEmpty(field, num_tokens));
  const size_t max = model.max_context_tokens - 1;
  if (num_tokens <= max) return absl::OkStatus();
  return FieldError(
      field, absl::StrCat(num_tokens, " tokens, at most ", max,
                          " leave room for output in the context of ", model.max_context_tokens));
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

}  // namespace adamoe
