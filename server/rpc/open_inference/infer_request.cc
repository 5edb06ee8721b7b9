#include "server/rpc/open_inference/infer_request.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/rpc/open_inference/sampling_parameters.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

using inference::ModelInferRequest;

// A parameter that is a whole number >= 0; nothing where it is not there.
absl::StatusOr<std::optional<uint64_t>> WholeNumber(const ModelInferRequest& request,
                                                    const char* name) {
  const auto found = request.parameters().find(name);
  if (found == request.parameters().end()) return std::nullopt;
  const inference::InferParameter& value = found->second;
  if (value.has_uint64_param()) return value.uint64_param();
  if (value.has_int64_param() && value.int64_param() >= 0) {
    return static_cast<uint64_t>(value.int64_param());
  }
  return FieldError(absl::StrCat("parameters.", name), "is not a whole number of at least 0");
}

absl::Status ReadPriority(const ModelInferRequest& request, v1::GenerateRequest* generate) {
  ASSIGN_OR_RETURN(const auto priority, WholeNumber(request, "priority"));
  // Lower goes sooner there.
  constexpr uint64_t kLast = std::numeric_limits<int32_t>::max();
  if (priority.has_value())
    generate->set_priority(-static_cast<int32_t>(std::min(*priority, kLast)));
  return WholeNumber(request, "timeout").status();
}

absl::Status CheckEmptyFinalResponse(const ModelInferRequest& request) {
  // Whatever it says: the last response is never empty here.
  constexpr char kName[] = "triton_enable_empty_final_response";
  const auto found = request.parameters().find(kName);
  if (found == request.parameters().end() || found->second.has_bool_param()) {
    return absl::OkStatus();
  }
  return FieldError(absl::StrCat("parameters.", kName), "is not a bool");
}

bool IsSet(const Inputs& inputs, absl::string_view name) {
  const auto found = inputs.find(name);
  return found != inputs.end() && std::get<bool>(found->second);
}

absl::Status ReadOutputs(const ModelInferRequest& request, const Inputs& inputs,
                         AnswerOptions* answer) {
  OutputSet named = {};
  for (const auto& output : request.outputs()) {
    const auto spec = std::find_if(kOutputs.begin(), kOutputs.end(),
                                   [&](const OutputSpec& s) { return s.name == output.name(); });
    const std::string field = absl::StrCat("outputs.", output.name().substr(0, 64));
    if (spec == kOutputs.end()) return FieldError(field, "is no output of this model");
    if (output.parameters().count("shared_memory_region") > 0) {
      return FieldError(field, "in shared memory, which this server does not write");
    }
    named[spec - kOutputs.begin()] = true;
  }
  for (int i = 0; i < kNumOutputs; ++i) {
    const char* asked_by = kOutputs[i].asked_by;
    answer->wanted[i] =
        (asked_by == nullptr || IsSet(inputs, asked_by)) && (request.outputs().empty() || named[i]);
  }
  return absl::OkStatus();
}

absl::Status ReadText(Inputs& inputs, v1::GenerateRequest* generate, AnswerOptions* answer) {
  answer->stream = IsSet(inputs, "stream");
  const bool says = inputs.count("exclude_input_in_output") > 0;
  const bool prepends = says ? !IsSet(inputs, "exclude_input_in_output") : !answer->stream;
  if (prepends && answer->stream) {
    return FieldError("inputs.exclude_input_in_output", "false does not go with a stream");
  }
  auto& prompt = std::get<std::string>(inputs.find("text_input")->second);
  if (prepends) answer->prefix = prompt;
  generate->set_prompt(std::move(prompt));
  return absl::OkStatus();
}

absl::Status ReadSampling(const ModelInferRequest& request, const Inputs& inputs,
                          v1::GenerateRequest* generate) {
  const auto sampling = inputs.find("sampling_parameters");
  if (sampling == inputs.end()) return ReadSamplingParameters(request.parameters(), generate);
  RETURN_IF_ERROR(ReadComputeParameters(request.parameters(), generate));
  return ReadSamplingJson(std::get<std::string>(sampling->second), generate);
}

}  // namespace

absl::Status CheckModel(absl::string_view name, absl::string_view version,
                        const ServedModel& model) {
  if (name != model.name) {
    return absl::NotFoundError(
        absl::StrCat("no model \"", name.substr(0, 128), "\" here; served is ", model.name));
  }
  if (version.empty() || version == kModelVersion) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("no version \"", version.substr(0, 32), "\" of ",
                                          model.name, " here, only ", kModelVersion));
}

absl::Status ReadInferRequest(const ModelInferRequest& request, const ServedModel& model,
                              v1::GenerateRequest* generate, AnswerOptions* answer) {
  RETURN_IF_ERROR(CheckModel(request.model_name(), request.model_version(), model));
  generate->set_request_id(request.id());
  ASSIGN_OR_RETURN(Inputs inputs, ReadInputs(request));
  RETURN_IF_ERROR(ReadPriority(request, generate));
  RETURN_IF_ERROR(CheckEmptyFinalResponse(request));
  RETURN_IF_ERROR(ReadSampling(request, inputs, generate));
  RETURN_IF_ERROR(ReadOutputs(request, inputs, answer));
  RETURN_IF_ERROR(ReadText(inputs, generate, answer));
  const bool needs_logprobs = answer->wanted[static_cast<int>(Output::kLogprobs)] ||
                              answer->wanted[static_cast<int>(Output::kCumulativeLogprob)];
  if (needs_logprobs && !generate->has_logprobs()) generate->set_logprobs(0);
  return absl::OkStatus();
}

absl::Duration TimeoutOf(const ModelInferRequest& request) {
  const auto timeout = WholeNumber(request, "timeout");
  // 0: none. The bound keeps the arithmetic of times in range; it is 290 years.
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max() / 1000;
  if (!timeout.ok() || timeout->value_or(0) == 0 || **timeout > kMax)
    return absl::InfiniteDuration();
  return absl::Microseconds(static_cast<int64_t>(**timeout));
}

std::string InferField(absl::string_view field) {
  const absl::string_view whole = field;
  if (field == "request_id") return "id";
  if (field == "prompt") return "inputs.text_input";
  if (absl::StartsWith(field, "structured")) return "sampling_parameters.structured_outputs";
  if (absl::ConsumePrefix(&field, "sampling.") || absl::ConsumePrefix(&field, "compute.")) {
    return absl::StrCat("sampling_parameters.", field);
  }
  return std::string(whole);
}

}  // namespace adamoe
