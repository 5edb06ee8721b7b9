#include "train/commands/common_flags.h"

#include <algorithm>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"

ABSL_FLAG(std::vector<std::string>, text, {},
          "Text files, .txt or .gz, comma separated: one paragraph per line, documents apart by a "
          "line <|endoftext|>. Trainings take FILE:WEIGHT too: passes over it per pass over a file "
          "of weight 1");
ABSL_FLAG(std::string, choices, "",
          "Multiple-choice questions, .jsonl or .jsonl.gz, in place of --text: "
          "{\"question\": \"...\", \"choices\": [\"...\", ...], \"answer_index\": 0} a line");
ABSL_FLAG(std::string, model, "", "Model folder to read");
ABSL_FLAG(std::string, adapter, "",
          "Folder of a PEFT adapter to merge into the model; for evaluate, of molora's too");
ABSL_FLAG(
    int32_t, experts_per_token, 0,
    "Router picks per token, k, of which a PEFT adapter says nothing; 0: the model's, 2 for a new "
    "one");
ABSL_FLAG(int32_t, num_null_experts, 0,
          "pretrain, convert, molora: null experts per layer, m; 0: none");
ABSL_FLAG(std::string, out, "", "Folder to write; made when missing");
ABSL_FLAG(std::string, device, "auto",
          "cpu; cuda: the first GPU; auto: a GPU where LibTorch finds one");
ABSL_FLAG(int32_t, threads, 0, "Threads; 0: one per processor");
ABSL_FLAG(bool, bfloat16, true,
          "Trainings: multiply matrices in bfloat16 where the processor has AVX-512-BF16");
ABSL_FLAG(uint64_t, seed, 1, "Trainings: of the initial weights and the order of the examples");
ABSL_FLAG(bool, resume, false, "Trainings: go on from the checkpoint in --out");
ABSL_FLAG(int32_t, lora_r, 0,
          "Trainings: rank of LoRA matrices; 0: finetune trains every parameter, molora takes 8");
ABSL_FLAG(double, lora_alpha, 16, "Trainings: what LoRA adds is scaled by lora_alpha / lora_r");
ABSL_FLAG(int64_t, window, 256, "Trainings: tokens of a window of text");
ABSL_FLAG(int64_t, batch, 16, "Trainings: windows or questions per step, a multiple of --share");
ABSL_FLAG(int64_t, share, 8, "Trainings: windows whose gradient one thread computes at once");
ABSL_FLAG(int64_t, max_steps, 0, "Trainings: steps of the whole training; 0: no limit");
ABSL_FLAG(double, max_seconds, 0,
          "Trainings: seconds of the whole training, resumed runs together; 0: no limit");
ABSL_FLAG(double, learning_rate, 0,
          "Trainings: the highest, after the warm-up; 0: 5e-5 for finetune, 1e-3 for others");
ABSL_FLAG(double, min_learning_rate_ratio, 0.05, "Trainings: the last, as a share of the highest");
ABSL_FLAG(double, warmup, 0.03, "Trainings: share of the training in which the rate rises");
ABSL_FLAG(double, weight_decay, 0.1, "Trainings: AdamW's, of matrices");
ABSL_FLAG(double, max_gradient_norm, 1.0, "Trainings: longer gradients are cut to this norm");
ABSL_FLAG(std::string, router_loss, "null",
          "Trainings: null: AdaMoE's balance loss; balance: with nulls as true experts; none");
ABSL_FLAG(double, first_alpha, 0.02, "Trainings: weight of the router loss at the first step");
ABSL_FLAG(double, last_alpha, 0.0001, "Trainings: weight of the router loss at the last step");
ABSL_FLAG(std::string, alpha_schedule, "",
          "Trainings: exponential: from first to last in equal ratios; halves: the first in the "
          "first half, the last in the second; empty: exponential for pretrain, halves for others");
ABSL_FLAG(int64_t, checkpoint_steps, 500, "Trainings: steps between two checkpoints");
ABSL_FLAG(int64_t, log_steps, 20, "Trainings: steps between two lines of progress");

namespace adamoe {
namespace {

absl::StatusOr<RouterLoss> ParseRouterLoss(const std::string& name) {
  if (name == "null") return RouterLoss::kNull;
  if (name == "balance") return RouterLoss::kBalance;
  if (name == "none") return RouterLoss::kNone;
  return absl::InvalidArgumentError(
      absl::StrCat("--router_loss=", name, ": expected null, balance or none"));
}

absl::StatusOr<AlphaSchedule::Shape> ParseShape(const std::string& name,
                                                AlphaSchedule::Shape if_empty) {
  if (name.empty()) return if_empty;
  if (name == "exponential") return AlphaSchedule::Shape::kExponential;
  if (name == "halves") return AlphaSchedule::Shape::kHalves;
  return absl::InvalidArgumentError(
      absl::StrCat("--alpha_schedule=", name, ": expected exponential or halves"));
}

}  // namespace

volatile bool stop_requested = false;

absl::StatusOr<at::Device> DeviceOfFlags() { return DeviceNamed(absl::GetFlag(FLAGS_device)); }

int NumThreads() {
  const int num_threads = absl::GetFlag(FLAGS_threads);
  if (num_threads > 0) return num_threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

absl::StatusOr<TrainerOptions> TrainerOptionsOfFlags(const TrainingDefaults& defaults) {
  TrainerOptions options;
  options.out_dir = absl::GetFlag(FLAGS_out);
  if (options.out_dir.empty()) return absl::InvalidArgumentError("--out is missing");
  options.batch = absl::GetFlag(FLAGS_batch);
  options.share = absl::GetFlag(FLAGS_share);
  options.num_threads = NumThreads();
  options.max_steps = absl::GetFlag(FLAGS_max_steps);
  options.max_seconds = absl::GetFlag(FLAGS_max_seconds);
  const double learning_rate = absl::GetFlag(FLAGS_learning_rate);
  options.learning_rate = learning_rate == 0 ? defaults.learning_rate : learning_rate;
  options.min_learning_rate_ratio = absl::GetFlag(FLAGS_min_learning_rate_ratio);
  options.warmup = absl::GetFlag(FLAGS_warmup);
  options.max_gradient_norm = absl::GetFlag(FLAGS_max_gradient_norm);
  options.weight_decay = absl::GetFlag(FLAGS_weight_decay);
  const auto router_loss = ParseRouterLoss(absl::GetFlag(FLAGS_router_loss));
  if (!router_loss.ok()) return router_loss.status();
  options.router_loss = *router_loss;
  const auto shape = ParseShape(absl::GetFlag(FLAGS_alpha_schedule), defaults.alpha_shape);
  if (!shape.ok()) return shape.status();
  options.alpha = {absl::GetFlag(FLAGS_first_alpha), absl::GetFlag(FLAGS_last_alpha), *shape};
  options.checkpoint_steps = absl::GetFlag(FLAGS_checkpoint_steps);
  options.log_steps = absl::GetFlag(FLAGS_log_steps);
  return options;
}

}  // namespace adamoe
