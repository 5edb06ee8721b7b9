#include "server/http/openai_request.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/http/field_reader.h"
#include "server/http/json_document.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

constexpr int64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();
// Few tokens, as OpenAI's completions have it.
constexpr uint32_t kDefaultCompletionTokens = 16;
constexpr int64_t kMaxLogprobs = 20;

// What would change the answer, and is not done. Null, false, and what is empty ask for nothing.
struct Refusal {
  const char* field;
  const char* why;
  const char* allowed = nullptr;  // JSON text of the one value that asks for nothing either
};

constexpr Refusal kRefusedByBoth[] = {
    {"use_beam_search", "beam search is not done here"},
    {"prompt_logprobs", "log-probabilities of the prompt come with echo and logprobs"},
    {"include_stop_str_in_output", "stop strings are not part of the output"},
    {"skip_special_tokens", "special tokens have no text here", "true"},
    {"truncate_prompt_tokens", "prompts are never cut"},
    {"allowed_token_ids", "use logit_bias or structured_outputs"},
    {"bad_words", "use logit_bias"},
    {"logits_processors", "not supported"},
};
constexpr Refusal kRefusedByCompletions[] = {
    {"suffix", "insertion is not supported"},
    {"add_special_tokens", "send token ids instead", "true"},
    {"prompt_embeds", "not supported"},
};
constexpr Refusal kRefusedByChat[] = {
    {"functions", "tools are not supported"},
    {"function_call", "tools are not supported", "\"none\""},
    {"audio", "only text is supported"},
    {"modalities", "only text is supported", "[\"text\"]"},
    {"prediction", "not supported"},
    {"web_search_options", "not supported"},
    {"echo", "only /v1/completions does that"},
    {"chat_template", "the format of a conversation is the server's own"},
    {"continue_final_message", "not supported"},
    {"add_generation_prompt", "not supported", "true"},
};

bool AsksForNothing(const Json& value, const char* allowed) {
  if (value.is_boolean() && !value.get<bool>() && allowed == nullptr) return true;
  if ((value.is_string() || value.is_structured()) && value.empty()) return true;
  if (value.is_string() && value.get_ref<const std::string&>().empty()) return true;
  return allowed != nullptr && value == Json::parse(allowed);
}

template <size_t kSize>
void Refuse(const Refusal (&refusals)[kSize], FieldReader& fields) {
  for (const auto& [name, why, allowed] : refusals) {
    const Json* value = fields.Find(name);
    if (value == nullptr || AsksForNothing(*value, allowed)) continue;
    fields.Fail(name, why);
  }
}

// Tools that the model may not use are no more than words it is not told.
void RefuseTools(FieldReader& fields) {
  const Json* choice = fields.Find("tool_choice");
  const Json* tools = fields.Find("tools");
  if (choice != nullptr && *choice == "none") return;
  if (tools != nullptr && !tools->empty()) {
    fields.Fail("tools", "tools are not supported");
  } else if (choice != nullptr && *choice != "auto") {
    fields.Fail("tool_choice", "tools are not supported");
  }
}

// Token ids, or nothing and an error.
std::optional<OpenAiRequest::Ids> ReadIds(const Json& array, const std::string& name,
                                          FieldReader& fields) {
  OpenAiRequest::Ids ids;
  ids.reserve(array.size());
  for (const Json& value : array) {
    const auto id = value.is_number() ? WholeNumber(value) : std::nullopt;
    if (!id.has_value() || *id < 0 || *id > kMaxUint32) {
      fields.Fail(absl::StrCat(name, "[", ids.size(), "]"),
                  absl::StrCat(value.is_number() ? value.dump() : std::string(KindOf(value)),
                               " is no token id"));
      return std::nullopt;
    }
    ids.push_back(static_cast<uint32_t>(*id));
  }
  return ids;
}

void ReadPrompts(FieldReader& fields, OpenAiRequest& request) {
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", "is missing");
  if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array() || prompt->empty()) {
    return fields.Fail("prompt",
                       "must be a string, token ids, or a list of strings or of lists of token "
                       "ids, and not empty");
  }
  if (prompt->front().is_number()) {
    if (auto ids = ReadIds(*prompt, "prompt", fields))
      request.prompts.emplace_back(*std::move(ids));
    return;
  }
  request.prompts_are_listed = true;
  if (prompt->size() > kMaxOpenAiChoices) {
    return fields.Fail("prompt", absl::StrCat(prompt->size(), " prompts, at most ",
                                              kMaxOpenAiChoices, " are allowed"));
  }
  for (const Json& value : *prompt) {
    const std::string name = absl::StrCat("prompt[", request.prompts.size(), "]");
    if (value.is_string()) {
      request.prompts.emplace_back(value.get<std::string>());
    } else if (value.is_array()) {
      auto ids = ReadIds(value, name, fields);
      if (!ids.has_value()) return;
      request.prompts.emplace_back(*std::move(ids));
    } else {
      return fields.Fail(
          name, absl::StrCat("must be a string or a list of token ids, is ", KindOf(value)));
    }
  }
}

// Text, or parts of it.
void ReadContent(const Json& content, const std::string& name, FieldReader& fields,
                 std::string* text) {
  if (content.is_string()) {
    *text = content.get<std::string>();
    return;
  }
  if (!content.is_array()) {
    return fields.Fail(name,
                       absl::StrCat("must be a string or a list of parts, is ", KindOf(content)));
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string part_name = absl::StrCat(name, "[", i, "]");
    if (!content[i].is_object()) return fields.Fail(part_name, "must be an object");
    FieldReader part(content[i], part_name + ".");
    const std::string type = part.String("type").value_or("");
    if (type == "text") {
      const auto piece = part.String("text");
      if (!piece.has_value()) part.Fail("text", "is missing");
      text->append(piece.value_or(""));
    } else {
      part.Fail("type", absl::StrCat("'", type.substr(0, 64), "': only text is supported"));
    }
    fields.Fail(part.status());
  }
}

void ReadMessages(FieldReader& fields, OpenAiRequest& request) {
  const Json* messages = fields.Array("messages");
  if (messages == nullptr) return fields.Fail("messages", "is missing");
  request.common.mutable_messages();  // also where there are none
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& value = (*messages)[i];
    const std::string name = absl::StrCat("messages[", i, "]");
    if (!value.is_object()) return fields.Fail(name, "must be an object");
    FieldReader message(value, name + ".");
    v1::Message& proto = *request.common.mutable_messages()->add_messages();
    const std::string role = message.String("role").value_or("");
    proto.set_role(role == "developer" ? "system" : role);
    const Json* content = message.Find("content");
    if (content == nullptr) {
      message.Fail("content", "is missing");
    } else {
      ReadContent(*content, name + ".content", fields, proto.mutable_content());
    }
    const Json* tools = message.Find("tool_calls");
    if (tools != nullptr && !tools->empty()) message.Fail("tool_calls", "tools are not supported");
    fields.Fail(message.status());
    if (!fields.status().ok()) return;
  }
}

void ReadStops(FieldReader& fields, v1::Sampling& sampling) {
  const Json* stop = fields.Find("stop");
  if (stop == nullptr) return;
  if (stop->is_string()) return sampling.add_stop(stop->get<std::string>());
  if (!stop->is_array()) return fields.Fail("stop", "must be a string or a list of strings");
  for (const Json& value : *stop) {
    if (!value.is_string()) return fields.Fail("stop", "must be a string or a list of strings");
    sampling.add_stop(value.get<std::string>());
  }
}

void ReadLogitBias(FieldReader& fields, v1::Sampling& sampling) {
  const Json* biases = fields.Object("logit_bias");
  if (biases == nullptr) return;
  for (const auto& [key, value] : biases->get_ref<const Json::object_t&>()) {
    uint32_t id;
    if (!absl::SimpleAtoi(key, &id)) {
      return fields.Fail("logit_bias", absl::StrCat("'", key.substr(0, 64), "' is no token id"));
    }
    if (!value.is_number()) {
      return fields.Fail(absl::StrCat("logit_bias[", id, "]"), "must be a number");
    }
    constexpr double kMax = std::numeric_limits<float>::max();
    (*sampling.mutable_logit_bias())[id] =
        static_cast<float>(std::clamp(value.get<double>(), -kMax, kMax));
  }
}

void ReadLengths(FieldReader& fields, OpenAiRequest& request) {
  v1::Sampling& sampling = *request.common.mutable_sampling();
  auto max_tokens = fields.Integer("max_tokens", 0, kMaxUint32);
  request.max_tokens_field = "max_tokens";
  if (const auto newer = fields.Integer("max_completion_tokens", 0, kMaxUint32)) {
    request.max_tokens_field = "max_completion_tokens";
    max_tokens = newer;
  }
  if (max_tokens.has_value()) {
    request.drops_output = request.echo && *max_tokens == 0;
    // A request generates at least one; it is then not shown.
    sampling.set_max_tokens(request.drops_output ? 1 : static_cast<uint32_t>(*max_tokens));
  } else if (request.api == OpenAiApi::kCompletions) {
    sampling.set_max_tokens(kDefaultCompletionTokens);
  } else {
    sampling.set_fill_context(true);
  }
  const auto min_tokens = fields.Integer("min_tokens", 0, kMaxUint32);
  if (min_tokens.has_value()) sampling.set_min_tokens(static_cast<uint32_t>(*min_tokens));
}

void ReadSampling(FieldReader& fields, OpenAiRequest& request) {
  v1::Sampling& sampling = *request.common.mutable_sampling();
  ReadLengths(fields, request);
  if (const auto value = fields.Float("temperature")) sampling.set_temperature(*value);
  if (const auto value = fields.Float("top_p")) sampling.set_top_p(*value);
  // -1 is all, as 0 is.
  if (const auto value = fields.Integer("top_k", -1, kMaxUint32)) {
    sampling.set_top_k(static_cast<uint32_t>(std::max<int64_t>(*value, 0)));
  }
  if (const auto value = fields.Float("min_p")) sampling.set_min_p(*value);
  if (const auto value = fields.Float("repetition_penalty")) {
    sampling.set_repetition_penalty(*value);
  }
  if (const auto value = fields.Float("presence_penalty")) sampling.set_presence_penalty(*value);
  if (const auto value = fields.Float("frequency_penalty")) sampling.set_frequency_penalty(*value);
  if (const auto value = fields.Integer("seed", std::numeric_limits<int64_t>::min(),
                                        std::numeric_limits<int64_t>::max())) {
    sampling.set_seed(static_cast<uint64_t>(*value));
  }
  sampling.set_ignore_eos(fields.Bool("ignore_eos").value_or(false));
  ReadStops(fields, sampling);
  if (const Json* value = fields.Array("stop_token_ids")) {
    if (const auto ids = ReadIds(*value, "stop_token_ids", fields)) {
      sampling.mutable_stop_token_ids()->Add(ids->begin(), ids->end());
    }
  }
  ReadLogitBias(fields, sampling);
}

void ReadLogprobs(FieldReader& fields, OpenAiRequest& request) {
  if (request.api == OpenAiApi::kCompletions) {
    // Older clients send false for none.
    const Json* value = fields.Find("logprobs");
    if (value == nullptr || (value->is_boolean() && !value->get<bool>())) return;
    const auto count = fields.Integer("logprobs", 0, kMaxLogprobs);
    request.logprobs = count.has_value();
    request.common.set_logprobs(static_cast<uint32_t>(count.value_or(0)));
    request.common.set_prompt_logprobs(request.echo);
    return;
  }
  request.logprobs = fields.Bool("logprobs").value_or(false);
  const auto count = fields.Integer("top_logprobs", 0, kMaxLogprobs);
  if (request.logprobs) {
    request.common.set_logprobs(static_cast<uint32_t>(count.value_or(0)));
  } else if (count.value_or(0) > 0) {
    fields.Fail("top_logprobs", "needs logprobs to be true");
  }
}

// One form of output: `name` is json, regex, grammar, choice or json_object.
void ReadForm(const std::string& name, const Json& value, const std::string& field,
              FieldReader& fields, OpenAiRequest& request) {
  if (request.common.has_structured()) return fields.Fail(field, "is the second form of output");
  v1::StructuredOutput& structured = *request.common.mutable_structured();
  request.structured_field = field;
  if (name == "json") {
    // A schema, or the text of one.
    structured.set_json_schema(value.is_string() ? value.get<std::string>() : value.dump());
  } else if (name == "json_object") {
    if (!value.is_boolean()) return fields.Fail(field, "must be a boolean");
    structured.set_json_object(value.get<bool>());
  } else if (name == "choice") {
    if (!value.is_array()) return fields.Fail(field, "must be a list of strings");
    structured.mutable_choice();
    for (const Json& choice : value) {
      if (!choice.is_string()) return fields.Fail(field, "must be a list of strings");
      structured.mutable_choice()->add_choices(choice.get<std::string>());
    }
  } else {
    if (!value.is_string()) return fields.Fail(field, "must be a string");
    if (name == "regex") structured.set_regex(value.get<std::string>());
    if (name == "grammar") structured.set_grammar(value.get<std::string>());
  }
}

void ReadResponseFormat(FieldReader& fields, OpenAiRequest& request) {
  const Json* format = fields.Object("response_format");
  if (format == nullptr) return;
  FieldReader inner(*format, "response_format.");
  const std::string type = inner.String("type").value_or("");
  if (type == "json_object") {
    ReadForm("json_object", true, "response_format", fields, request);
  } else if (type == "json_schema") {
    const Json* named = inner.Object("json_schema");
    const Json* schema = nullptr;
    if (named != nullptr) schema = FieldReader(*named).Find("schema");
    if (schema == nullptr) {
      inner.Fail("json_schema.schema", "is missing");
    } else {
      ReadForm("json", *schema, "response_format.json_schema.schema", fields, request);
    }
  } else if (type != "text") {
    inner.Fail("type", absl::StrCat("'", type.substr(0, 64),
                                    "' is not one of text, json_object, json_schema"));
  }
  fields.Fail(inner.status());
}

void ReadStructured(FieldReader& fields, OpenAiRequest& request) {
  ReadResponseFormat(fields, request);
  const Json* outputs = fields.Object("structured_outputs");
  for (const char* name : {"json", "json_object", "regex", "grammar", "choice"}) {
    if (outputs != nullptr) {
      if (const Json* value = FieldReader(*outputs).Find(name)) {
        ReadForm(name, *value, absl::StrCat("structured_outputs.", name), fields, request);
      }
    }
    const std::string older = absl::StrCat("guided_", name);
    if (const Json* value = fields.Find(older)) ReadForm(name, *value, older, fields, request);
  }
  if (outputs != nullptr && !request.common.has_structured()) {
    fields.Fail("structured_outputs",
                "one of json, json_object, regex, grammar and choice is needed");
  }
}

void ReadCompute(FieldReader& fields, OpenAiRequest& request) {
  if (const Json* compute = fields.Object("compute")) {
    FieldReader inner(*compute, "compute.");
    v1::Compute& proto = *request.common.mutable_compute();
    if (const auto value = inner.Float("null_bias")) proto.set_null_bias(*value);
    if (const auto value = inner.Integer("max_experts_per_token", 0, kMaxUint32)) {
      proto.set_max_experts_per_token(static_cast<uint32_t>(*value));
    }
    fields.Fail(inner.status());
  }
  request.experts_per_layer = fields.Bool("experts_per_layer").value_or(false);
  request.common.set_experts_per_layer(request.experts_per_layer);
  request.return_experts =
      fields.Bool("return_experts").value_or(false) || request.experts_per_layer;
}

void ReadStream(FieldReader& fields, OpenAiRequest& request) {
  request.stream = fields.Bool("stream").value_or(false);
  const Json* options = fields.Object("stream_options");
  if (options == nullptr) return;
  if (!request.stream) return fields.Fail("stream_options", "needs stream to be true");
  FieldReader inner(*options, "stream_options.");
  request.include_usage = inner.Bool("include_usage").value_or(false);
  request.continuous_usage = inner.Bool("continuous_usage_stats").value_or(false);
  fields.Fail(inner.status());
}

void ReadCounts(FieldReader& fields, OpenAiRequest& request) {
  const auto n = fields.Integer("n", 1, kMaxOpenAiChoices);
  request.n = static_cast<int>(n.value_or(1));
  const auto best_of = fields.Integer("best_of", 0, kMaxUint32);
  if (best_of.has_value() && *best_of > request.n) {
    fields.Fail("best_of", "more than n is not supported");
  }
  if (request.num_choices() > kMaxOpenAiChoices) {
    fields.Fail("n", absl::StrCat(request.n, " choices for each of ", request.num_prompts(),
                                  " prompts are more than ", kMaxOpenAiChoices));
  }
  const auto priority = fields.Integer("priority", std::numeric_limits<int32_t>::min(),
                                       std::numeric_limits<int32_t>::max());
  request.common.set_priority(static_cast<int32_t>(priority.value_or(0)));
}

void CheckModel(FieldReader& fields, absl::string_view model_name) {
  const auto model = fields.String("model");
  if (!model.has_value() || model->empty() || *model == model_name) return;
  fields.Fail("model", absl::StrCat("the model '", model->substr(0, 256),
                                    "' does not exist; this server serves '", model_name, "'"));
}

// `text`'s "[i]..." at its end, or "".
absl::string_view IndexOf(absl::string_view text) {
  const size_t bracket = text.find('[');
  return bracket == absl::string_view::npos ? "" : text.substr(bracket);
}

}  // namespace

absl::StatusOr<OpenAiRequest> ReadOpenAiRequest(OpenAiApi api, absl::string_view body,
                                                absl::string_view model_name) {
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(body));
  FieldReader fields(json);
  OpenAiRequest request;
  request.api = api;
  CheckModel(fields, model_name);
  Refuse(kRefusedByBoth, fields);
  if (api == OpenAiApi::kChat) {
    Refuse(kRefusedByChat, fields);
    RefuseTools(fields);
    ReadMessages(fields, request);
  } else {
    Refuse(kRefusedByCompletions, fields);
    request.echo = fields.Bool("echo").value_or(false);
    ReadPrompts(fields, request);
  }
  ReadCounts(fields, request);
  ReadSampling(fields, request);
  ReadLogprobs(fields, request);
  ReadStructured(fields, request);
  ReadCompute(fields, request);
  ReadStream(fields, request);
  RETURN_IF_ERROR(fields.status());
  return request;
}

void FillGenerateRequest(const OpenAiRequest& request, int index, v1::GenerateRequest* proto) {
  *proto = request.common;
  if (proto->sampling().has_seed()) {
    v1::Sampling& sampling = *proto->mutable_sampling();
    sampling.set_seed(sampling.seed() + static_cast<uint64_t>(index % request.n));
  }
  if (request.api == OpenAiApi::kChat) return;
  const OpenAiRequest::Prompt& prompt = request.prompts[index / request.n];
  if (const auto* ids = std::get_if<OpenAiRequest::Ids>(&prompt)) {
    proto->mutable_prompt_tokens()->mutable_ids()->Add(ids->begin(), ids->end());
  } else {
    proto->set_prompt(std::get<std::string>(prompt));
  }
}

std::string OpenAiField(const OpenAiRequest& request, int index, absl::string_view field) {
  const absl::string_view rest = IndexOf(field);
  if (field == "sampling.max_tokens") return request.max_tokens_field;
  if (absl::ConsumePrefix(&field, "sampling.")) return std::string(field);
  if (absl::StartsWith(field, "structured")) return absl::StrCat(request.structured_field, rest);
  if (field == "prompt" || absl::StartsWith(field, "prompt_tokens")) {
    const bool listed = request.prompts_are_listed;
    return absl::StrCat("prompt", listed ? absl::StrCat("[", index / request.n, "]") : "", rest);
  }
  return std::string(field);
}

}  // namespace adamoe
