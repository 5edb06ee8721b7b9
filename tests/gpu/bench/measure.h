// Speeds of a Model as the server would run it: requests through the queue and the executor, with
// its scheduler, paged cache and sampling. Not thread-safe.
#ifndef ADAMOE_TESTS_GPU_BENCH_MEASURE_H_
#define ADAMOE_TESTS_GPU_BENCH_MEASURE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/model/model.h"

namespace adamoe {

struct Speed {
  int64_t num_steps = 0;           // that were measured
  double tokens_per_second = 0.0;  // by the median time from one step's end to the next
  double step_seconds = 0.0;       // that median
  double host_seconds = 0.0;       // of which between two forward passes, median
  double load = 0.0;               // true experts per token and layer, mean
  double context = 0.0;            // positions that a decoded token sees, mean
};

// `batch` greedy requests of `prompt_tokens`, all decoding for at least `num_steps` steps together.
absl::StatusOr<Speed> MeasureDecode(Model* model, int32_t batch, int32_t prompt_tokens,
                                    int32_t num_steps);

// Prompts of `num_tokens`, one after the other and each in one step, `num_prompts` times after one
// that is not measured.
absl::StatusOr<Speed> MeasurePrefill(Model* model, int32_t num_tokens, int32_t num_prompts);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_BENCH_MEASURE_H_
