// What a training run needs to go on where it stopped: DIR/training.json names a safetensors file
// beside it with the float32 parameters and moments. The JSON is replaced last, so a crash leaves
// the previous state intact.
#ifndef ADAMOE_TRAIN_TRAINING_STATE_H_
#define ADAMOE_TRAIN_TRAINING_STATE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "train/adamw.h"
#include "train/safetensors_writer.h"

namespace adamoe {

struct TrainingProgress {
  int64_t num_steps = 0;
  int64_t num_rows = 0;  // drawn from the example source
  int64_t num_tokens = 0;
  double seconds = 0;
};

// `parameters`: float32, those that `optimizer` updates, in its order.
absl::Status SaveTrainingState(const std::string& dir, const TrainingProgress& progress,
                               const NamedTensors& parameters, const AdamW& optimizer);

// Restores what SaveTrainingState saved of the same parameters, into the tensors of `parameters`
// and *optimizer. NOT_FOUND without a saved state; INVALID_ARGUMENT names the tensor that does not
// fit.
absl::StatusOr<TrainingProgress> LoadTrainingState(const std::string& dir,
                                                   const NamedTensors& parameters,
                                                   AdamW* optimizer);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_TRAINING_STATE_H_
