#include "server/serving/check_sampling.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/field_checks.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

constexpr uint32_t kDefaultMaxTokens = 256;
constexpr int kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr int kMaxStopTokenIds = 64;
constexpr size_t kMaxLogitBiases = 1024;
constexpr float kMaxLogitBias = 100;

uint64_t RandomSeed() {
  thread_local std::mt19937_64 generator((static_cast<uint64_t>(std::random_device()()) << 32) ^
                                         std::random_device()());
  return generator();
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
  for (const Range& range : ranges) RETURN_IF_ERROR(CheckRange(range));
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
    RETURN_IF_ERROR(CheckRange({field.c_str(), bias, -kMaxLogitBias, kMaxLogitBias}));
    params.logit_bias.emplace_back(static_cast<int32_t>(id), bias);
  }
  return absl::OkStatus();
}

}  // namespace

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

}  // namespace adamoe
