// Flags that several subcommands read.
#ifndef ADAMOE_TRAIN_COMMANDS_COMMON_FLAGS_H_
#define ADAMOE_TRAIN_COMMANDS_COMMON_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "train/device.h"
#include "train/trainer.h"

ABSL_DECLARE_FLAG(std::vector<std::string>, text);
ABSL_DECLARE_FLAG(std::string, choices);
ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(std::string, adapter);
ABSL_DECLARE_FLAG(int32_t, experts_per_token);
ABSL_DECLARE_FLAG(int32_t, num_null_experts);
ABSL_DECLARE_FLAG(std::string, out);
ABSL_DECLARE_FLAG(bool, bfloat16);
ABSL_DECLARE_FLAG(uint64_t, seed);
ABSL_DECLARE_FLAG(int64_t, window);
ABSL_DECLARE_FLAG(int32_t, lora_r);
ABSL_DECLARE_FLAG(double, lora_alpha);
ABSL_DECLARE_FLAG(bool, resume);

namespace adamoe {

// --threads, one per processor by default.
int NumThreads();

// What a command takes where a flag leaves the choice to it.
struct TrainingDefaults {
  double learning_rate = 1e-3;
  AlphaSchedule::Shape alpha_shape = AlphaSchedule::Shape::kExponential;
};

// --device. FAILED_PRECONDITION where a GPU is asked for and none can be used.
absl::StatusOr<at::Device> DeviceOfFlags();

// The trainer's flags, --out among them. INVALID_ARGUMENT names the flag with a wrong value.
absl::StatusOr<TrainerOptions> TrainerOptionsOfFlags(const TrainingDefaults& defaults = {});

// Set by SIGTERM and SIGINT: a training saves and ends.
extern volatile bool stop_requested;

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_COMMANDS_COMMON_FLAGS_H_
