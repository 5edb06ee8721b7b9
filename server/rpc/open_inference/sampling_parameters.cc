#include "server/rpc/open_inference/sampling_parameters.h"

#include <adamoe/v1/inference.pb.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

using Json = nlohmann::json;

// Room for a schema at its own limit, written as a string in a string.
constexpr size_t kMaxJsonBytes = 256 << 10;
// JSON is written again, and its nesting is that of calls then.
constexpr int kMaxJsonDepth = 100;
constexpr int kMaxStops = 64;          // more than is allowed anyway
constexpr int kMaxLogitBiases = 2048;  // likewise

absl::Status Invalid(absl::string_view problem) { return absl::InvalidArgumentError(problem); }

// `value` as an error shows it.
std::string Shown(const Json& value) {
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  return value.dump().substr(0, 64);
}

absl::StatusOr<Json> Parse(absl::string_view text) {
  if (text.size() > kMaxJsonBytes) {
    return Invalid(
        absl::StrCat(text.size(), " bytes of JSON, at most ", kMaxJsonBytes, " are allowed"));
  }
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxJsonDepth;
    return !too_deep;
  };
  Json json = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (too_deep) return Invalid(absl::StrCat("JSON nested deeper than ", kMaxJsonDepth));
  if (json.is_discarded()) return Invalid("is not JSON");
  return json;
}

absl::StatusOr<double> Number(const Json& value) {
  double number;
  if (value.is_number()) return value.get<double>();
  if (value.is_string() && absl::SimpleAtod(value.get_ref<const std::string&>(), &number)) {
    return number;
  }
  return Invalid(absl::StrCat(Shown(value), " is not a number"));
}

absl::StatusOr<float> Float(const Json& value) {
  ASSIGN_OR_RETURN(const double number, Number(value));
  // A conversion outside float's range is undefined.
  if (std::abs(number) <= std::numeric_limits<float>::max()) return static_cast<float>(number);
  return Invalid(absl::StrCat(Shown(value), " is out of range"));
}

// An integer, also as "5" or 5.0.
absl::StatusOr<int64_t> Integer(const Json& value) {
  int64_t integer;
  if (value.is_number_integer() &&
      (!value.is_number_unsigned() ||
       value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))) {
    return value.get<int64_t>();
  }
  if (value.is_string() && absl::SimpleAtoi(value.get_ref<const std::string&>(), &integer)) {
    return integer;
  }
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::abs(number) < 9e15 && number == std::floor(number)) {
      return static_cast<int64_t>(number);
    }
  }
  return Invalid(absl::StrCat(Shown(value), " is not an integer"));
}

absl::StatusOr<uint32_t> Count(const Json& value) {
  ASSIGN_OR_RETURN(const int64_t count, Integer(value));
  if (count >= 0 && count <= std::numeric_limits<uint32_t>::max()) {
    return static_cast<uint32_t>(count);
  }
  return Invalid(absl::StrCat(count, " is not a count"));
}

absl::StatusOr<bool> Bool(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (absl::EqualsIgnoreCase(text, "true") || text == "1") return true;
    if (absl::EqualsIgnoreCase(text, "false") || text == "0") return false;
  }
  if (value == 0 || value == 1) return value == 1;
  return Invalid(absl::StrCat(Shown(value), " is neither true nor false"));
}

// A value that is an array or object, also written as a string of JSON, as parameters have to.
absl::StatusOr<Json> Structure(const Json& value) {
  if (!value.is_string()) return value;
  return Parse(value.get_ref<const std::string&>());
}

// One function per key follows. None sees null.

absl::Status Stop(const Json& value, v1::GenerateRequest& request) {
  if (value.is_string()) {
    request.mutable_sampling()->add_stop(value.get<std::string>());
    return absl::OkStatus();
  }
  if (!value.is_array() || value.size() > kMaxStops) {
    return Invalid(absl::StrCat(Shown(value), " is neither a string nor a short list of strings"));
  }
  for (const Json& stop : value) {
    if (!stop.is_string()) return Invalid(absl::StrCat(Shown(stop), " is not a string"));
    request.mutable_sampling()->add_stop(stop.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status StopTokenIds(const Json& value, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const Json ids, Structure(value));
  if (!ids.is_array()) return Invalid(absl::StrCat(Shown(ids), " is not a list of token ids"));
  for (const Json& id : ids) {
    ASSIGN_OR_RETURN(const uint32_t count, Count(id));
    request.mutable_sampling()->add_stop_token_ids(count);
  }
  return absl::OkStatus();
}

absl::Status LogitBias(const Json& value, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const Json biases, Structure(value));
  if (!biases.is_object() || biases.size() > kMaxLogitBiases) {
    return Invalid(absl::StrCat(Shown(biases), " is not a small map of token ids to numbers"));
  }
  for (const auto& [key, number] : biases.items()) {
    uint32_t id;
    if (!absl::SimpleAtoi(key, &id)) {
      return Invalid(absl::StrCat("\"", key.substr(0, 64), "\" is not a token id"));
    }
    ASSIGN_OR_RETURN(const float bias, Float(number));
    (*request.mutable_sampling()->mutable_logit_bias())[id] = bias;
  }
  return absl::OkStatus();
}

absl::Status Choices(const Json& value, v1::StructuredOutput& structured) {
  if (!value.is_array()) return Invalid("choice is not a list of strings");
  for (const Json& choice : value) {
    if (!choice.is_string()) return Invalid("choice is not a list of strings");
    structured.mutable_choice()->add_choices(choice.get<std::string>());
  }
  structured.mutable_choice();
  return absl::OkStatus();
}

// StructuredOutputsParams: {"json": schema} or regex, grammar, choice, json_object.
absl::Status Structured(const Json& value, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const Json object, Structure(value));
  if (!object.is_object()) return Invalid(absl::StrCat(Shown(object), " is not a JSON object"));
  v1::StructuredOutput& structured = *request.mutable_structured();
  int num_forms = 0;
  for (const auto& [key, form] : object.items()) {
    // false and null ask for nothing; what they are the defaults of is not looked at.
    if (form.is_null() || form == false) continue;
    ++num_forms;
    if (key == "json") {
      structured.set_json_schema(form.is_string() ? form.get<std::string>() : form.dump());
    } else if (key == "regex" && form.is_string()) {
      structured.set_regex(form.get<std::string>());
    } else if (key == "grammar" && form.is_string()) {
      structured.set_grammar(form.get<std::string>());
    } else if (key == "choice") {
      RETURN_IF_ERROR(Choices(form, structured));
    } else if (key == "json_object" && form == true) {
      structured.set_json_object(true);
    } else {
      return Invalid(
          absl::StrCat("\"", key.substr(0, 64), "\" is not a form that can be followed"));
    }
  }
  if (num_forms == 1) return absl::OkStatus();
  return Invalid(absl::StrCat(num_forms, " forms of output, one is needed"));
}

// What is not done: only the value that does not ask for it passes.
absl::Status Only(const Json& value, const Json& harmless) {
  if (value == harmless) return absl::OkStatus();
  return Invalid(absl::StrCat(Shown(value), " is not supported, only ", harmless.dump()));
}

absl::Status OnlyTrue(const Json& value, v1::GenerateRequest&) {
  ASSIGN_OR_RETURN(const bool is_true, Bool(value));
  return Only(is_true, true);
}

absl::Status OnlyFalse(const Json& value, v1::GenerateRequest&) {
  ASSIGN_OR_RETURN(const bool is_true, Bool(value));
  return Only(is_true, false);
}

absl::Status OnlyOne(const Json& value, v1::GenerateRequest&) {
  ASSIGN_OR_RETURN(const int64_t count, Integer(value));
  return Only(count, 1);
}

absl::Status OnlyNothing(const Json& value, v1::GenerateRequest&) {
  if ((value.is_string() || value.is_array()) && value.empty()) return absl::OkStatus();
  if (value == "") return absl::OkStatus();
  return Only(value, nullptr);
}

// Neither asks for anything where special tokens have no text.
absl::Status AnyBool(const Json& value, v1::GenerateRequest&) { return Bool(value).status(); }

#define SET(convert, setter)                                            \
  [](const Json& value, v1::GenerateRequest& request) -> absl::Status { \
    ASSIGN_OR_RETURN(const auto converted, convert(value));             \
    request.setter(converted);                                          \
    return absl::OkStatus();                                            \
  }

struct Key {
  const char* name;
  absl::Status (*read)(const Json& value, v1::GenerateRequest& request);
};

constexpr Key kComputeKeys[] = {
    {"null_bias", SET(Float, mutable_compute()->set_null_bias)},
    {"max_experts_per_token", SET(Count, mutable_compute()->set_max_experts_per_token)},
};

constexpr Key kSamplingKeys[] = {
    {"max_tokens", SET(Count, mutable_sampling()->set_max_tokens)},
    {"min_tokens", SET(Count, mutable_sampling()->set_min_tokens)},
    {"temperature", SET(Float, mutable_sampling()->set_temperature)},
    {"top_p", SET(Float, mutable_sampling()->set_top_p)},
    {"min_p", SET(Float, mutable_sampling()->set_min_p)},
    {"top_k",
     [](const Json& value, v1::GenerateRequest& request) -> absl::Status {
       ASSIGN_OR_RETURN(const int64_t top_k, Integer(value));
       if (top_k == -1) return absl::OkStatus();  // all, as is 0
       ASSIGN_OR_RETURN(const uint32_t count, Count(value));
       request.mutable_sampling()->set_top_k(count);
       return absl::OkStatus();
     }},
    {"repetition_penalty", SET(Float, mutable_sampling()->set_repetition_penalty)},
    {"presence_penalty", SET(Float, mutable_sampling()->set_presence_penalty)},
    {"frequency_penalty", SET(Float, mutable_sampling()->set_frequency_penalty)},
    {"seed", SET(Integer, mutable_sampling()->set_seed)},
    {"stop", Stop},
    {"stop_token_ids", StopTokenIds},
    {"ignore_eos", SET(Bool, mutable_sampling()->set_ignore_eos)},
    {"logit_bias", LogitBias},
    {"logprobs", SET(Count, set_logprobs)},
    {"structured_outputs", Structured},
    {"guided_decoding", Structured},
    {"n", OnlyOne},
    {"best_of", OnlyOne},
    {"skip_special_tokens", OnlyTrue},
    {"detokenize", OnlyTrue},
    {"spaces_between_special_tokens", AnyBool},
    {"include_stop_str_in_output", OnlyFalse},
    {"use_beam_search", OnlyFalse},
    {"prompt_logprobs", OnlyNothing},
    {"truncate_prompt_tokens", OnlyNothing},
    {"bad_words", OnlyNothing},
    {"allowed_token_ids", OnlyNothing},
    {"lora_name", OnlyNothing},
};
#undef SET

const Key* Find(absl::string_view name) {
  for (const Key& key : kComputeKeys) {
    if (key.name == name) return &key;
  }
  for (const Key& key : kSamplingKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

absl::Status ReadKey(absl::string_view prefix, absl::string_view name, const Json& value,
                     v1::GenerateRequest* request) {
  const std::string field = absl::StrCat(prefix, ".", MendUtf8(name.substr(0, 64)));
  const Key* key = Find(name);
  if (key == nullptr) return FieldError(field, "is not a parameter of this model");
  if (value.is_null()) return absl::OkStatus();
  const absl::Status status = key->read(value, *request);
  return status.ok() ? status : FieldError(field, status);
}

// What speaks of the request itself, or is Triton's own.
bool IsReserved(absl::string_view name) {
  return name == "priority" || name == "timeout" || name == "headers" ||
         absl::StartsWith(name, "sequence_") || absl::StartsWith(name, "triton_");
}

absl::StatusOr<Json> ToJson(const inference::InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case inference::InferParameter::kBoolParam:
      return Json(parameter.bool_param());
    case inference::InferParameter::kInt64Param:
      return Json(parameter.int64_param());
    case inference::InferParameter::kStringParam:
      return Json(parameter.string_param());
    case inference::InferParameter::kDoubleParam:
      return Json(parameter.double_param());
    case inference::InferParameter::kUint64Param:
      return Json(parameter.uint64_param());
    case inference::InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return Invalid("has no value of a known type");
}

absl::Status ReadParameter(const std::string& name, const inference::InferParameter& parameter,
                           v1::GenerateRequest* request) {
  const auto value = ToJson(parameter);
  if (!value.ok()) {
    return FieldError(absl::StrCat("parameters.", name.substr(0, 64)), value.status());
  }
  return ReadKey("parameters", name, *value, request);
}

}  // namespace

absl::Status ReadSamplingJson(absl::string_view json, v1::GenerateRequest* request) {
  const auto object = Parse(json);
  if (!object.ok()) return FieldError("sampling_parameters", object.status());
  if (!object->is_object()) {
    return FieldError("sampling_parameters", absl::StrCat(Shown(*object), " is not a JSON object"));
  }
  for (const auto& [name, value] : object->items()) {
    RETURN_IF_ERROR(ReadKey("sampling_parameters", name, value, request));
  }
  return absl::OkStatus();
}

absl::Status ReadSamplingParameters(const InferParameters& parameters,
                                    v1::GenerateRequest* request) {
  for (const auto& [name, parameter] : parameters) {
    if (IsReserved(name)) continue;
    RETURN_IF_ERROR(ReadParameter(name, parameter, request));
  }
  return absl::OkStatus();
}

absl::Status ReadComputeParameters(const InferParameters& parameters,
                                   v1::GenerateRequest* request) {
  for (const Key& key : kComputeKeys) {
    const auto found = parameters.find(key.name);
    if (found == parameters.end()) continue;
    RETURN_IF_ERROR(ReadParameter(found->first, found->second, request));
  }
  return absl::OkStatus();
}

}  // namespace adamoe
