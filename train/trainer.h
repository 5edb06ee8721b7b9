// The loop that every training shares: batches from an ExampleSource, gradients of a Trainable,
// AdamW, warm-up and cosine schedule, gradient clipping, checkpoints.
//
// A batch is cut into shares, and a thread computes the gradient of a share alone, so threads meet
// only twice a step. Not thread-safe.
#ifndef ADAMOE_TRAIN_TRAINER_H_
#define ADAMOE_TRAIN_TRAINER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "train/adamw.h"
#include "train/losses.h"
#include "train/mixtral_reference.h"
#include "train/safetensors_writer.h"
#include "train/training_state.h"

namespace adamoe {

// Rows of token ids. Inputs are all columns but the last, targets all but the first.
struct Examples {
  at::Tensor tokens;  // [rows, length + 1], i64
  // [rows, length], bool: targets the loss is taken over; undefined: all. What follows the last of
  // a row is padding, which counts for the router loss and the load neither.
  at::Tensor counted;
};

// An endless stream of examples whose order depends on its construction alone.
class ExampleSource {
 public:
  virtual ~ExampleSource() = default;

  virtual Examples Draw(int64_t num_rows) = 0;
  // What Draw(num_rows) would skip. A resumed run calls it with all rows drawn before.
  virtual void Skip(int64_t num_rows) = 0;
};

// What a step computes with: a copy of the parameters for one step.
struct TrainingPass {
  // Require gradients; in the order of Trainable::Parameters.
  std::vector<at::Tensor> leaves;
  // tokens: [rows, length], i64. Differentiable in `leaves`. Called from several threads at once.
  std::function<ReferenceOutput(const at::Tensor& tokens)> forward;
};

// A model with some tensors that training changes.
class Trainable {
 public:
  virtual ~Trainable() = default;

  // Float32, in a fixed order; the optimizer changes them in place.
  virtual NamedTensors Parameters() const = 0;
  // Router picks from this one on are null.
  virtual int64_t num_experts() const = 0;
  virtual TrainingPass BeginPass() const = 0;
  // Writes the model as its users read it. Replaces files one by one, each in one step.
  virtual absl::Status Save(const std::string& dir) const = 0;
};

struct TrainerOptions {
  std::string out_dir;  // exists
  int64_t batch = 16;   // rows per step, a multiple of share
  int64_t share = 4;    // rows whose gradient is computed at once, by one thread
  int num_threads = 1;

  // The end of training, by whichever is given; the schedule runs to it. Seconds count over resumed
  // runs together.
  int64_t max_steps = 0;
  double max_seconds = 0;
  double learning_rate = 1e-3;
  double min_learning_rate_ratio = 0.05;
  double warmup = 0.03;  // share of the whole training
  double max_gradient_norm = 1.0;
  double weight_decay = 0.1;
  RouterLoss router_loss = RouterLoss::kNull;
  AlphaSchedule alpha;

  int64_t checkpoint_steps = 500;
  int64_t log_steps = 20;
};

// INVALID_ARGUMENT names the option that is out of range.
absl::Status CheckTrainerOptions(const TrainerOptions& options);

class Trainer {
 public:
  // Keeps references to all three. REQUIRES: CheckTrainerOptions(options) is OK.
  Trainer(const TrainerOptions& options, ExampleSource* examples, const Trainable* model);

  // Restores the checkpoint in out_dir, so that Run goes on exactly as if it had not stopped.
  absl::Status Resume();

  // Runs to the end, or until *stop is set (by a signal handler); either way saves a checkpoint.
  // INTERNAL when the loss or the gradient is not a finite number: the last checkpoint stays.
  absl::Status Run(const volatile bool* stop);

 private:
  // The gradient of one thread's rows.
  struct Share {
    double loss = 0;  // mean over its counted targets
    double num_counted = 0;
    double router_loss = 0;
    double load = 0;
    std::vector<at::Tensor> gradients;
  };
  // What a step reports.
  struct Report {
    double loss = 0;
    double router_loss = 0;
    double load = 0;
    double gradient_norm = 0;
  };

  // Where the run stands; a progress line tells of the stretch between two.
  struct Moment {
    absl::Time time;
    int64_t num_tokens = 0;
    double share_done = 0;
    double matrix_seconds = 0;
  };

  absl::StatusOr<Report> Step();
  std::vector<Share> ComputeShares(const Examples& examples) const;
  void ComputeShare(const TrainingPass& pass, const Examples& examples, double weight,
                    Share* share) const;
  // The sum over shares, float32; zeros for a parameter no share used.
  std::vector<at::Tensor> SumGradients(std::vector<Share>* shares) const;
  double ShareDone() const;
  double LearningRate() const;
  double Alpha() const;
  Moment Here() const;
  void Log(const Report& report);
  absl::Status Save() const;

  const TrainerOptions& options_;
  ExampleSource& examples_;
  const Trainable& model_;
  const NamedTensors parameters_;
  AdamW optimizer_;
  TrainingProgress progress_;
  Moment last_log_;
};

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_TRAINER_H_
