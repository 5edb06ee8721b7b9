#include "server/http/openai_request.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/http/field_reader.h"
#include "server/http/json_document.h"
#include "server/http/openai_input.h"
#include "server/http/openai_refusals.h"
#include "server/http/openai_sampling.h"

namespace adamoe {
namespace {

constexpr int64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();

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
  RefuseUnsupported(api, fields);
  if (api == OpenAiApi::kChat) {
    ReadMessages(fields, request);
  } else {
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
