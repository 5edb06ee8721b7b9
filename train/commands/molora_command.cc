#include "absl/flags/flag.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/molora_training.h"

ABSL_DECLARE_FLAG(int32_t, num_experts);

namespace adamoe {
namespace {

constexpr int32_t kDefaultRank = 8;
constexpr int32_t kDefaultExpertsPerToken = 2;

template <typename T>
T FlagOr(const absl::Flag<T>& flag, T fallback) {
  const T value = absl::GetFlag(flag);
  return value == 0 ? fallback : value;
}

}  // namespace

absl::Status RunMoLora() {
  MoLoraTrainingOptions options;
  options.model_dir = absl::GetFlag(FLAGS_model);
  if (options.model_dir.empty()) return absl::InvalidArgumentError("--model is missing");
  options.molora.num_experts = absl::GetFlag(FLAGS_num_experts);
  options.molora.num_null_experts = absl::GetFlag(FLAGS_num_null_experts);
  options.molora.experts_per_token = FlagOr(FLAGS_experts_per_token, kDefaultExpertsPerToken);
  options.molora.rank = FlagOr(FLAGS_lora_r, kDefaultRank);
  options.molora.alpha = absl::GetFlag(FLAGS_lora_alpha);
  options.text = absl::GetFlag(FLAGS_text);
  options.choices = absl::StrSplit(absl::GetFlag(FLAGS_choices), ',', absl::SkipEmpty());
  options.window = absl::GetFlag(FLAGS_window);
  ASSIGN_OR_RETURN(options.device, DeviceOfFlags());
  options.use_bfloat16 = absl::GetFlag(FLAGS_bfloat16);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.resume = absl::GetFlag(FLAGS_resume);
  ASSIGN_OR_RETURN(options.trainer,
                   TrainerOptionsOfFlags({.alpha_shape = AlphaSchedule::Shape::kHalves}));
  return TrainMoLora(options, &stop_requested);
}

}  // namespace adamoe
