#include "client/cli/request_flags.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "client/cli/stop_texts.h"

ABSL_FLAG(std::vector<std::string>, prompt_tokens, {},
          "generate: token ids to continue instead of a text, divided by commas. Default: none");
ABSL_FLAG(
    std::string, request_id, "",
    "Names the request in the server's logs, at most 128 bytes. Default: the server makes one");
ABSL_FLAG(
    absl::optional<uint32_t>, max_tokens, absl::nullopt,
    "Tokens to generate at most, >= 1. Default: the server's, 256 or what the context has left");
ABSL_FLAG(uint32_t, min_tokens, 0, "Tokens before which nothing ends the output");
ABSL_FLAG(absl::optional<float>, temperature, absl::nullopt,
          "Divides the logits, in [0, 100]; 0 takes the likeliest token. Default: 1");
ABSL_FLAG(uint32_t, top_k, 0, "Keeps that many of the likeliest tokens; 0 keeps all");
ABSL_FLAG(
    absl::optional<float>, top_p, absl::nullopt,
    "Keeps the fewest likeliest tokens whose probabilities reach this sum, in (0, 1]. Default: 1");
ABSL_FLAG(float, min_p, 0,
          "Keeps tokens at least that many times as likely as the likeliest, in [0, 1]");
ABSL_FLAG(absl::optional<float>, repetition_penalty, absl::nullopt,
          "Divides the logits of tokens already in prompt or output, in (0, 100]. Default: 1");
ABSL_FLAG(float, presence_penalty, 0,
          "Taken from the logits of tokens already in the output, once, in [-2, 2]");
ABSL_FLAG(float, frequency_penalty, 0,
          "Taken from the logits of tokens already in the output, for each occurrence, in [-2, 2]");
ABSL_FLAG(absl::optional<uint64_t>, seed, absl::nullopt,
          "Makes the sampled tokens reproducible. Default: random");
ABSL_FLAG(adamoe::StopTexts, stop, {},
          "Texts that end the output, divided by commas; the flag may be repeated. \\n, \\t, \\, "
          "and \\\\ stand for a "
          "newline, a tab, a comma and a backslash. Default: none");
ABSL_FLAG(std::vector<std::string>, stop_token_ids, {},
          "Token ids that end the output, divided by commas. Default: the model's own only");
ABSL_FLAG(bool, ignore_eos, false, "Goes on past the model's own end-of-sequence tokens");
ABSL_FLAG(std::vector<std::string>, logit_bias, {},
          "id:bias pairs divided by commas: each bias, in [-100, 100], is added to its token's "
          "logit. Default: none");
ABSL_FLAG(absl::optional<uint32_t>, logprobs, absl::nullopt,
          "Prints each token's natural-log probability, with so many likeliest alternatives (at "
          "most 20). Default: off");
ABSL_FLAG(bool, prompt_logprobs, false, "Prints the same of the prompt's tokens");
ABSL_FLAG(int32_t, priority, 0, "Requests with higher priority go sooner");
ABSL_FLAG(absl::optional<float>, null_bias, absl::nullopt,
          "Added to the router logits of the null experts, in [-1000, 1000]: above 0 fewer experts "
          "run, below 0 more. "
          "Default: 0, as trained");
ABSL_FLAG(absl::optional<uint32_t>, max_experts_per_token, absl::nullopt,
          "True experts per token and layer at most, >= 1. Default: no limit");
ABSL_FLAG(std::string, json_schema, "",
          "The output is JSON that is valid under this JSON Schema: a file, or the schema itself "
          "where the value begins with {. Default: any text");
ABSL_FLAG(bool, json_object, false, "The output is a JSON object");
ABSL_FLAG(
    std::string, regex, "",
    "The output is a text that this regular expression matches as a whole. Default: any text");
ABSL_FLAG(std::string, grammar, "",
          "File of an EBNF grammar; the output is one of its rule root. Default: any text");
ABSL_FLAG(adamoe::StopTexts, choice, {},
          "The output is one of these texts, divided by commas; the flag may be repeated, and "
          "takes the escapes of --stop. Default: any text");
ABSL_FLAG(bool, experts_per_layer, false,
          "Asks for every token's experts in each layer (shown with --json)");

namespace adamoe {
namespace {

absl::Status FillLogitBias(v1::Sampling* sampling) {
  for (const std::string& pair : absl::GetFlag(FLAGS_logit_bias)) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(pair, absl::MaxSplits(':', 1));
    uint32_t id;
    float bias;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit_bias: '", pair, "' is not id:bias, as in 42:-1.5"));
    }
    (*sampling->mutable_logit_bias())[id] = bias;
  }
  return absl::OkStatus();
}

// Fields that are unset and fields that are 0 are told apart where the API does so.
void FillSampling(v1::Sampling* sampling) {
  if (const auto value = absl::GetFlag(FLAGS_max_tokens)) sampling->set_max_tokens(*value);
  if (const auto value = absl::GetFlag(FLAGS_temperature)) sampling->set_temperature(*value);
  if (const auto value = absl::GetFlag(FLAGS_top_p)) sampling->set_top_p(*value);
  if (const auto value = absl::GetFlag(FLAGS_repetition_penalty))
    sampling->set_repetition_penalty(*value);
  if (const auto value = absl::GetFlag(FLAGS_seed)) sampling->set_seed(*value);
  sampling->set_min_tokens(absl::GetFlag(FLAGS_min_tokens));
  sampling->set_top_k(absl::GetFlag(FLAGS_top_k));
  sampling->set_min_p(absl::GetFlag(FLAGS_min_p));
  sampling->set_presence_penalty(absl::GetFlag(FLAGS_presence_penalty));
  sampling->set_frequency_penalty(absl::GetFlag(FLAGS_frequency_penalty));
  sampling->set_ignore_eos(absl::GetFlag(FLAGS_ignore_eos));
  for (std::string& text : absl::GetFlag(FLAGS_stop).texts) sampling->add_stop(std::move(text));
}

absl::StatusOr<std::string> ReadFile(absl::string_view flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, ": cannot read '", path, "', or it is empty"));
  }
  return text.str();
}

absl::StatusOr<v1::StructuredOutput> StructuredFromFlags() {
  v1::StructuredOutput structured;
  int num_forms = 0;
  if (const std::string schema = absl::GetFlag(FLAGS_json_schema); !schema.empty()) {
    ++num_forms;
    const bool is_text = absl::StartsWith(absl::StripLeadingAsciiWhitespace(schema), "{");
    auto text = is_text ? schema : ReadFile("json_schema", schema);
    if (!text.ok()) return text.status();
    structured.set_json_schema(*std::move(text));
  }
  if (absl::GetFlag(FLAGS_json_object)) {
    ++num_forms;
    structured.set_json_object(true);
  }
  if (std::string regex = absl::GetFlag(FLAGS_regex); !regex.empty()) {
    ++num_forms;
    structured.set_regex(std::move(regex));
  }
  if (const std::string path = absl::GetFlag(FLAGS_grammar); !path.empty()) {
    ++num_forms;
    auto text = ReadFile("grammar", path);
    if (!text.ok()) return text.status();
    structured.set_grammar(*std::move(text));
  }
  if (StopTexts choices = absl::GetFlag(FLAGS_choice); !choices.texts.empty()) {
    ++num_forms;
    for (std::string& text : choices.texts) {
      structured.mutable_choice()->add_choices(std::move(text));
    }
  }
  if (num_forms <= 1) return structured;
  return absl::InvalidArgumentError(
      "--json_schema, --json_object, --regex, --grammar and --choice: at most one may be given");
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> ParseIds(const std::vector<std::string>& ids,
                                               absl::string_view what) {
  std::vector<uint32_t> parsed;
  for (const std::string& text : ids) {
    uint32_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return absl::InvalidArgumentError(absl::StrCat(what, ": '", text, "' is not a token id"));
    }
    parsed.push_back(id);
  }
  return parsed;
}

v1::Compute ComputeFromFlags() {
  v1::Compute compute;
  if (const auto value = absl::GetFlag(FLAGS_null_bias)) compute.set_null_bias(*value);
  if (const auto value = absl::GetFlag(FLAGS_max_experts_per_token))
    compute.set_max_experts_per_token(*value);
  return compute;
}

absl::StatusOr<v1::GenerateRequest> GenerateRequestFromFlags() {
  v1::GenerateRequest request;
  request.set_request_id(absl::GetFlag(FLAGS_request_id));
  FillSampling(request.mutable_sampling());
  if (absl::Status status = FillLogitBias(request.mutable_sampling()); !status.ok()) return status;
  auto stop_ids = ParseIds(absl::GetFlag(FLAGS_stop_token_ids), "--stop_token_ids");
  if (!stop_ids.ok()) return stop_ids.status();
  request.mutable_sampling()->mutable_stop_token_ids()->Assign(stop_ids->begin(), stop_ids->end());
  auto prompt = ParseIds(absl::GetFlag(FLAGS_prompt_tokens), "--prompt_tokens");
  if (!prompt.ok()) return prompt.status();
  if (!prompt->empty())
    request.mutable_prompt_tokens()->mutable_ids()->Assign(prompt->begin(), prompt->end());
  if (const auto value = absl::GetFlag(FLAGS_logprobs)) request.set_logprobs(*value);
  request.set_prompt_logprobs(absl::GetFlag(FLAGS_prompt_logprobs));
  request.set_priority(absl::GetFlag(FLAGS_priority));
  request.set_experts_per_layer(absl::GetFlag(FLAGS_experts_per_layer));
  auto structured = StructuredFromFlags();
  if (!structured.ok()) return structured.status();
  if (structured->form_case() != v1::StructuredOutput::FORM_NOT_SET) {
    *request.mutable_structured() = *std::move(structured);
  }
  const v1::Compute compute = ComputeFromFlags();
  if (compute.has_null_bias() || compute.has_max_experts_per_token())
    *request.mutable_compute() = compute;
  return request;
}

}  // namespace adamoe
