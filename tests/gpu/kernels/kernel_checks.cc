#include "tests/gpu/kernels/kernel_checks.h"

#include <utility>

#include "tests/gpu/kernels/checks.h"

namespace adamoe {
namespace {

std::vector<std::string>& Failures() {
  static std::vector<std::string> failures;
  return failures;
}

}  // namespace

const std::vector<KernelCheck>& KernelChecks() {
  static const std::vector<KernelCheck> checks = {
      {"embed", CheckEmbed},
      {"rms_norm", CheckRmsNorm},
      {"rope_append_kv", CheckRopeAppendKv},
      {"summarize_rows", CheckSummarizeRows},
      {"fill_random", CheckFillRandom},
      {"router_logits", CheckRouterLogits},
      {"route", CheckRoute},
      {"route_strange_logits", CheckRouteOfStrangeLogits},
      {"decode_attention", CheckDecodeAttention},
      {"prefill_attention", CheckPrefillAttention},
      {"windowed_prefill_attention", CheckWindowedPrefillAttention},
      {"mixed_attention", CheckMixedAttention},
      {"decode_experts", CheckDecodeExperts},
      {"prefill_experts_wgmma", CheckPrefillExpertsWgmma},
      {"prefill_experts_mma_sync", CheckPrefillExpertsMmaSync},
      {"nothing_to_do", CheckNothingToDo},
  };
  return checks;
}

std::vector<std::string> RunKernelCheck(const KernelCheck& check) {
  Failures().clear();
  check.run();
  return std::exchange(Failures(), {});
}

void Fail(const std::string& what) { Failures().push_back(what); }

}  // namespace adamoe
