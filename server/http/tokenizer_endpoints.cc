#include "server/http/tokenizer_endpoints.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/http/api_error.h"
#include "server/http/field_reader.h"
#include "server/http/json_document.h"
#include "server/http/special_tokens.h"
#include "server/log/json_text.h"
#include "server/serving/request_errors.h"
#include "server/tokenizer/chat_format.h"

namespace adamoe {
namespace {

// A longer text would keep a thread that others need for seconds.
constexpr size_t kMaxTokenizeBytes = 4 << 20;

Reply ToReply(const absl::StatusOr<Json>& answer) {
  if (!answer.ok()) return ToApiError(answer.status()).ToReply();
  return {.body = JsonText(*answer)};
}

absl::Status CheckModel(FieldReader& fields, const CallContext& context) {
  const auto model = fields.String("model");
  if (!model.has_value() || model->empty() || *model == context.model->name) {
    return absl::OkStatus();
  }
  return FieldError(
      "model", absl::StrCat("the model '", model->substr(0, 256),
                            "' does not exist; this server serves '", context.model->name, "'"));
}

absl::StatusOr<std::vector<int32_t>> EncodeMessages(const CallContext& context, const Json& list) {
  std::vector<ChatMessage> messages;
  for (const Json& value : list) {
    const std::string name = absl::StrCat("messages[", messages.size(), "]");
    if (!value.is_object()) return FieldError(name, "must be an object");
    FieldReader message(value, name + ".");
    messages.push_back(
        {message.String("role").value_or(""), message.String("content").value_or("")});
    RETURN_IF_ERROR(message.status());
  }
  auto ids = EncodeChat(*context.tokenizer, messages);
  if (!ids.ok()) return FieldError("messages", ids.status());
  return ids;
}

absl::StatusOr<std::vector<int32_t>> Encode(const CallContext& context, FieldReader& fields) {
  EncodeOptions options;
  options.add_special_tokens = fields.Bool("add_special_tokens").value_or(true);
  const Json* messages = fields.Array("messages");
  const auto prompt = fields.String("prompt");
  RETURN_IF_ERROR(fields.status());
  if (prompt.has_value()) {
    auto ids = context.tokenizer->Encode(*prompt, options);
    if (!ids.ok()) return FieldError("prompt", ids.status());
    return ids;
  }
  if (messages != nullptr) return EncodeMessages(context, *messages);
  return FieldError("prompt", "is missing");
}

absl::StatusOr<Json> Tokenize(const CallContext& context, const std::string& body) {
  if (body.size() > kMaxTokenizeBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the body has ", body.size(), " bytes, at most ",
                                                   kMaxTokenizeBytes, " are tokenized"));
  }
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(body));
  FieldReader fields(json);
  RETURN_IF_ERROR(CheckModel(fields, context));
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Encode(context, fields));
  return Json{
      {"count", ids.size()}, {"max_model_len", context.model->max_context_tokens}, {"tokens", ids}};
}

absl::StatusOr<Json> Detokenize(const CallContext& context, const std::string& body) {
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(body));
  FieldReader fields(json);
  RETURN_IF_ERROR(CheckModel(fields, context));
  const Json* tokens = fields.Array("tokens");
  RETURN_IF_ERROR(fields.status());
  if (tokens == nullptr) return FieldError("tokens", "is missing");
  std::vector<int32_t> ids;
  size_t index = 0;
  for (const Json& value : *tokens) {
    const auto id = WholeNumber(value);
    if (!id.has_value() || *id < 0 || *id >= context.model->vocab_size) {
      return FieldError(
          absl::StrCat("tokens[", index, "]"),
          absl::StrCat("is no token id below vocab_size ", context.model->vocab_size));
    }
    // A model may have more ids than its tokenizer: they stand for no text.
    if (*id < context.tokenizer->vocab_size()) ids.push_back(static_cast<int32_t>(*id));
    ++index;
  }
  const auto text = context.tokenizer->Decode(ids);
  if (!text.ok()) return FieldError("tokens", text.status());
  return Json{{"prompt", *text}};
}

Json NameOf(const std::optional<std::string>& name) {
  return name.has_value() ? Json(*name) : Json(nullptr);
}

}  // namespace

Reply AnswerTokenize(const CallContext& context, const std::string& body) {
  return ToReply(Tokenize(context, body));
}

Reply AnswerDetokenize(const CallContext& context, const std::string& body) {
  return ToReply(Detokenize(context, body));
}

Reply AnswerTokenizerInfo(const CallContext& context) {
  const Tokenizer& tokenizer = *context.tokenizer;
  std::optional<std::string> bos;
  const auto empty = tokenizer.Encode("", {});
  if (empty.ok() && !empty->empty()) bos = SpecialTokenName(tokenizer, empty->front());
  std::optional<std::string> eos;
  for (const int32_t id : context.model->eos_token_ids) {
    if (!eos.has_value()) eos = SpecialTokenName(tokenizer, id);
  }
  return {.body = JsonText({{"tokenizer_class", "PreTrainedTokenizerFast"},
                            {"vocab_size", tokenizer.vocab_size()},
                            {"model_max_length", context.model->max_context_tokens},
                            {"bos_token", NameOf(bos)},
                            {"eos_token", NameOf(eos)},
                            {"pad_token", nullptr},
                            {"chat_template", nullptr}})};
}

}  // namespace adamoe
