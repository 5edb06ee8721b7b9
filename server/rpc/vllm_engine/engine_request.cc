#include "server/rpc/vllm_engine/engine_request.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

namespace engine = vllm::grpc::engine;

absl::Status Refuse(const char* field, absl::string_view what) {
  return FieldError(field, absl::StrCat(what, " is not supported"));
}

absl::Status CheckSupported(const engine::GenerateRequest& request) {
  if (request.has_kv_transfer_params()) return Refuse("kv_transfer_params", "KV transfer");
  if (!request.kv_transfer_params_json().empty()) {
    return Refuse("kv_transfer_params_json", "KV transfer");
  }
  if (request.has_mm_inputs()) return Refuse("mm_inputs", "input beside text");
  if (!request.extra_mm_inputs().empty()) return Refuse("extra_mm_inputs", "input beside text");
  if (request.has_media_refs()) return Refuse("media_refs", "input beside text");
  if (request.has_data_parallel_rank() && request.data_parallel_rank() != 0) {
    return FieldError("data_parallel_rank",
                      absl::StrCat(request.data_parallel_rank(), ": there is one rank, 0"));
  }
  const engine::SamplingParams& params = request.sampling_params();
  if (params.has_truncate_prompt_tokens()) {
    return Refuse("sampling_params.truncate_prompt_tokens", "cutting the prompt");
  }
  if (params.has_structural_tag()) {
    return Refuse("sampling_params.structural_tag", "this form of output");
  }
  if (params.n() > kMaxSamples) {
    return FieldError("sampling_params.n",
                      absl::StrCat(params.n(), " is not in [1, ", kMaxSamples, "] (0 means 1)"));
  }
  // include_stop_str_in_output, skip_special_tokens and spaces_between_special_tokens say what the
  // text is like, and answers hold none.
  return absl::OkStatus();
}

absl::Status ReadSampling(const engine::SamplingParams& params, uint32_t index,
                          v1::Sampling* sampling) {
  if (params.has_max_tokens()) sampling->set_max_tokens(params.max_tokens());
  sampling->set_fill_context(true);
  sampling->set_min_tokens(params.min_tokens());
  if (params.has_temperature()) sampling->set_temperature(params.temperature());
  sampling->set_top_k(params.top_k());
  if (params.top_p() != 0) sampling->set_top_p(params.top_p());
  sampling->set_min_p(params.min_p());
  if (params.repetition_penalty() != 0) {
    sampling->set_repetition_penalty(params.repetition_penalty());
  }
  sampling->set_presence_penalty(params.presence_penalty());
  sampling->set_frequency_penalty(params.frequency_penalty());
  if (params.has_seed()) {
    sampling->set_seed(static_cast<uint64_t>(int64_t{params.seed()} + index));
  }
  *sampling->mutable_stop() = params.stop();
  *sampling->mutable_stop_token_ids() = params.stop_token_ids();
  sampling->set_ignore_eos(params.ignore_eos());
  for (const auto& [id, bias] : params.logit_bias()) {
    if (id < 0) {
      return FieldError(absl::StrCat("sampling_params.logit_bias[", id, "]"), "is no token id");
    }
    (*sampling->mutable_logit_bias())[static_cast<uint32_t>(id)] = bias;
  }
  return absl::OkStatus();
}

void ReadForm(const engine::SamplingParams& params, v1::GenerateRequest* generate) {
  switch (params.constraint_case()) {
    case engine::SamplingParams::kJsonSchema:
      generate->mutable_structured()->set_json_schema(params.json_schema());
      break;
    case engine::SamplingParams::kRegex:
      generate->mutable_structured()->set_regex(params.regex());
      break;
    case engine::SamplingParams::kGrammar:
      generate->mutable_structured()->set_grammar(params.grammar());
      break;
    case engine::SamplingParams::kJsonObject:
      if (params.json_object()) generate->mutable_structured()->set_json_object(true);
      break;
    case engine::SamplingParams::kChoice:
      *generate->mutable_structured()->mutable_choice()->mutable_choices() =
          params.choice().choices();
      break;
    case engine::SamplingParams::kStructuralTag:  // refused before
    case engine::SamplingParams::CONSTRAINT_NOT_SET:
      break;
  }
}

absl::Status ReadLogprobs(const engine::SamplingParams& params, v1::GenerateRequest* generate,
                          EngineAnswerOptions* answer) {
  answer->logprobs = params.has_logprobs();
  answer->prompt_logprobs = params.has_prompt_logprobs();
  if (params.logprobs() < 0) {
    return FieldError("sampling_params.logprobs",
                      absl::StrCat(params.logprobs(), " is not in [0, 20]"));
  }
  if (params.prompt_logprobs() < 0) {
    return FieldError("sampling_params.prompt_logprobs",
                      absl::StrCat(params.prompt_logprobs(), " is not in [0, 20]"));
  }
  answer->num_top_logprobs = static_cast<uint32_t>(params.logprobs());
  answer->num_top_prompt_logprobs = static_cast<uint32_t>(params.prompt_logprobs());
  if (answer->logprobs || answer->prompt_logprobs) {
    generate->set_logprobs(std::max(answer->num_top_logprobs, answer->num_top_prompt_logprobs));
  }
  generate->set_prompt_logprobs(answer->prompt_logprobs);
  return absl::OkStatus();
}

absl::Status ReadInput(const engine::GenerateRequest& request, v1::GenerateRequest* generate) {
  switch (request.input_case()) {
    case engine::GenerateRequest::kText:
      generate->set_prompt(request.text());
      return absl::OkStatus();
    case engine::GenerateRequest::kTokenized:
      *generate->mutable_prompt_tokens()->mutable_ids() = request.tokenized().input_ids();
      return absl::OkStatus();
    case engine::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return FieldError("input", "one of tokenized and text must be set");
}

}  // namespace

uint32_t NumSamples(const engine::GenerateRequest& request) {
  return std::clamp(request.sampling_params().n(), uint32_t{1}, kMaxSamples);
}

absl::Status ReadEngineRequest(const engine::GenerateRequest& request, uint32_t index,
                               v1::GenerateRequest* generate, EngineAnswerOptions* answer) {
  const engine::SamplingParams& params = request.sampling_params();
  generate->set_request_id(request.request_id());
  RETURN_IF_ERROR(CheckSupported(request));
  RETURN_IF_ERROR(ReadSampling(params, index, generate->mutable_sampling()));
  ReadForm(params, generate);
  RETURN_IF_ERROR(ReadLogprobs(params, generate, answer));
  RETURN_IF_ERROR(ReadInput(request, generate));
  answer->stream = request.stream();
  answer->stop_token_ids.assign(params.stop_token_ids().begin(), params.stop_token_ids().end());
  return absl::OkStatus();
}

std::string EngineField(absl::string_view field) {
  const absl::string_view whole = field;
  if (field == "prompt") return "text";
  if (field == "logprobs") return "sampling_params.logprobs";
  if (absl::ConsumePrefix(&field, "prompt_tokens")) {
    absl::ConsumePrefix(&field, ".ids");
    return absl::StrCat("tokenized.input_ids", field);
  }
  if (absl::ConsumePrefix(&field, "sampling.") || absl::ConsumePrefix(&field, "structured.")) {
    return absl::StrCat("sampling_params.", field);
  }
  return std::string(whole);
}

}  // namespace adamoe
