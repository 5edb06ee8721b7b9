#include "absl/flags/flag.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/finetune.h"

ABSL_FLAG(
    std::vector<std::string>, lora_targets,
    std::vector<std::string>({"gate", "gate2", "w1", "w2", "w3"}),
    "finetune: what LoRA changes, of gate, gate2, w1, w2, w3, q_proj, k_proj, v_proj, o_proj");
ABSL_FLAG(bool, merge, false,
          "finetune: write the model with LoRA added, in the types of --model, in place of an "
          "adapter; bfloat16 rounds small changes, an adapter keeps them");

namespace adamoe {
namespace {

absl::StatusOr<std::optional<LoraOptions>> LoraOptionsOfFlags() {
  const int32_t rank = absl::GetFlag(FLAGS_lora_r);
  if (rank == 0) {
    if (!absl::GetFlag(FLAGS_merge)) return std::nullopt;
    return absl::InvalidArgumentError("--merge needs --lora_r");
  }
  LoraOptions lora;
  lora.rank = rank;
  lora.alpha = absl::GetFlag(FLAGS_lora_alpha);
  lora.targets = absl::GetFlag(FLAGS_lora_targets);
  lora.merge = absl::GetFlag(FLAGS_merge);
  return lora;
}

}  // namespace

absl::Status RunFinetune() {
  FinetuneOptions options;
  options.model_dir = absl::GetFlag(FLAGS_model);
  if (options.model_dir.empty()) return absl::InvalidArgumentError("--model is missing");
  options.text = absl::GetFlag(FLAGS_text);
  options.choices = absl::StrSplit(absl::GetFlag(FLAGS_choices), ',', absl::SkipEmpty());
  options.window = absl::GetFlag(FLAGS_window);
  ASSIGN_OR_RETURN(options.device, DeviceOfFlags());
  options.use_bfloat16 = absl::GetFlag(FLAGS_bfloat16);
  ASSIGN_OR_RETURN(options.lora, LoraOptionsOfFlags());
  options.seed = absl::GetFlag(FLAGS_seed);
  options.resume = absl::GetFlag(FLAGS_resume);
  ASSIGN_OR_RETURN(
      options.trainer,
      TrainerOptionsOfFlags({.learning_rate = 5e-5, .alpha_shape = AlphaSchedule::Shape::kHalves}));
  return Finetune(options, &stop_requested);
}

}  // namespace adamoe
