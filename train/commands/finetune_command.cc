#include "absl/flags/flag.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/finetune.h"

namespace adamoe {

absl::Status RunFinetune() {
  FinetuneOptions options;
  options.model_dir = absl::GetFlag(FLAGS_model);
  if (options.model_dir.empty()) return absl::InvalidArgumentError("--model is missing");
  options.text = absl::GetFlag(FLAGS_text);
  options.window = absl::GetFlag(FLAGS_window);
  options.use_bfloat16 = absl::GetFlag(FLAGS_bfloat16);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.resume = absl::GetFlag(FLAGS_resume);
  ASSIGN_OR_RETURN(
      options.trainer,
      TrainerOptionsOfFlags({.learning_rate = 5e-5, .alpha_shape = AlphaSchedule::Shape::kHalves}));
  return Finetune(options, &stop_requested);
}

}  // namespace adamoe
