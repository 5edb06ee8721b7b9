#include <cstdio>

#include "absl/flags/flag.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/evaluate.h"
#include "train/safetensors_writer.h"

ABSL_FLAG(std::string, json, "", "evaluate: file to write the result to, as JSON");
ABSL_FLAG(int64_t, context, 0,
          "evaluate: tokens of a window; 0: the model's max_position_embeddings");
ABSL_FLAG(int32_t, baseline_experts_per_token, 2,
          "evaluate: true experts per token of the model that FLOPs are compared with");

namespace adamoe {

absl::Status RunEvaluate() {
  EvaluateOptions options;
  options.model_dir = absl::GetFlag(FLAGS_model);
  const std::vector<std::string> text = absl::GetFlag(FLAGS_text);
  if (text.size() != 1) return absl::InvalidArgumentError("--text: evaluate takes one file");
  options.text = text[0];
  options.context = absl::GetFlag(FLAGS_context);
  options.num_threads = NumThreads();
  options.baseline_experts_per_token = absl::GetFlag(FLAGS_baseline_experts_per_token);
  if (options.baseline_experts_per_token < 1) {
    return absl::InvalidArgumentError("--baseline_experts_per_token must be at least 1");
  }
  ASSIGN_OR_RETURN(const Evaluation evaluation, Evaluate(options));
  std::printf(
      "loss %.4f nats/token, perplexity %.2f, bits_per_byte %.4f, load %.3f, "
      "expert_flops_ratio %.4f, model_flops_ratio %.4f\n",
      evaluation.loss, evaluation.perplexity, evaluation.bits_per_byte, evaluation.load,
      evaluation.expert_flops_ratio, evaluation.model_flops_ratio);
  const std::string json = absl::GetFlag(FLAGS_json);
  return json.empty() ? absl::OkStatus() : WriteFileAtomically(json, ToJson(evaluation));
}

}  // namespace adamoe
