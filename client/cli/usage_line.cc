#include "client/cli/usage_line.h"

#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace adamoe {
namespace {

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

std::string PromptPart(const v1::Usage& usage) {
  std::string part = absl::StrFormat("%u prompt tokens", usage.prompt_tokens());
  if (usage.cached_prompt_tokens() > 0) {
    absl::StrAppendFormat(&part, " (%u cached)", usage.cached_prompt_tokens());
  }
  return part;
}

}  // namespace

std::string UsageLine(const v1::Usage& usage, const v1::GetModelInfoResponse& info) {
  std::vector<std::string> parts = {PromptPart(usage)};
  const double decode = Seconds(usage.decode_time());
  if (usage.completion_tokens() > 0) {
    parts.push_back(absl::StrFormat("%u tokens in %.2f s", usage.completion_tokens(),
                                    decode + Seconds(usage.prefill_time())));
  }
  if (usage.completion_tokens() > 1 && decode > 0) {
    parts.push_back(absl::StrFormat("%.1f tok/s", (usage.completion_tokens() - 1) / decode));
  }
  const double slots = static_cast<double>(usage.true_slots()) +
                       static_cast<double>(usage.null_slots()) +
                       static_cast<double>(usage.dropped_slots());
  if (slots > 0 && info.experts_per_token() > 0) {
    parts.push_back(absl::StrFormat("%.2f experts per token and layer",
                                    usage.true_slots() * info.experts_per_token() / slots));
  }
  if (usage.baseline_expert_flops() > 0) {
    const double ratio = static_cast<double>(usage.executed_expert_flops()) /
                         static_cast<double>(usage.baseline_expert_flops());
    parts.push_back(
        absl::StrFormat("%.1f %% of expert FLOPs saved against the baseline", 100 * (1 - ratio)));
  }
  return absl::StrJoin(parts, ", ");
}

}  // namespace adamoe
