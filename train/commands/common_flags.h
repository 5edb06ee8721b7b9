// Flags that several subcommands read.
#ifndef ADAMOE_TRAIN_COMMANDS_COMMON_FLAGS_H_
#define ADAMOE_TRAIN_COMMANDS_COMMON_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "train/trainer.h"

ABSL_DECLARE_FLAG(std::vector<std::string>, text);
ABSL_DECLARE_FLAG(std::string, choices);
ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(std::string, adapter);
ABSL_DECLARE_FLAG(int32_t, experts_per_token);
ABSL_DECLARE_FLAG(std::string, out);
ABSL_DECLARE_FLAG(bool, bfloat16);
ABSL_DECLARE_FLAG(uint64_t, seed);
ABSL_DECLARE_FLAG(int64_t, window);
ABSL_DECLARE_FLAG(bool, resume);

namespace adamoe {

// --threads, one per processor by default.
int NumThreads();

// The trainer's flags, --out among them. INVALID_ARGUMENT names the flag with a wrong value.
absl::StatusOr<TrainerOptions> TrainerOptionsOfFlags();

// Set by SIGTERM and SIGINT: a training saves and ends.
extern volatile bool stop_requested;

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_COMMANDS_COMMON_FLAGS_H_
