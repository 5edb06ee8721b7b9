#include "absl/flags/flag.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/convert.h"

ABSL_FLAG(
    double, router_noise, 1e-3,
    "convert: noise on the null experts' router rows, as a share of a row's root mean square; "
    "0 ties them with the true experts', which then win");

namespace adamoe {

absl::Status RunConvert() {
  const std::string model = absl::GetFlag(FLAGS_model);
  const std::string out = absl::GetFlag(FLAGS_out);
  NullExpertOptions options;
  options.num_null_experts = absl::GetFlag(FLAGS_num_null_experts);
  options.experts_per_token = absl::GetFlag(FLAGS_experts_per_token);
  options.router_noise = absl::GetFlag(FLAGS_router_noise);
  options.seed = absl::GetFlag(FLAGS_seed);
  if (model.empty()) return absl::InvalidArgumentError("--model is missing");
  if (out.empty()) return absl::InvalidArgumentError("--out is missing");
  if (options.experts_per_token == 0) {
    return absl::InvalidArgumentError("--experts_per_token is missing");
  }
  return ConvertFolder(model, out, options);
}

}  // namespace adamoe
