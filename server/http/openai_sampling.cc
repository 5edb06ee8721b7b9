#include "server/http/openai_sampling.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/http/json_document.h"
#include "server/http/openai_input.h"

namespace adamoe {
namespace {

constexpr int64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();
// Few tokens, as OpenAI's completions have it.
constexpr uint32_t kDefaultCompletionTokens = 16;
constexpr int64_t kMaxLogprobs = 20;

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

}  // namespace

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

}  // namespace adamoe
