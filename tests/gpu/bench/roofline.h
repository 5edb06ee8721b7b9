// How fast a Mixtral or AdaMoE model could run on a device that reads memory and multiplies at
// given rates, and does nothing else: the limits that measured speeds are shares of. bfloat16
// matrices, float32 router and norms, bfloat16 KV cache. Pure.
#ifndef ADAMOE_TESTS_GPU_BENCH_ROOFLINE_H_
#define ADAMOE_TESTS_GPU_BENCH_ROOFLINE_H_

#include <cstdint>

#include "server/weights/model_config.h"

namespace adamoe {

struct DeviceRates {
  double bytes_per_second = 0.0;  // of memory
  double flops_per_second = 0.0;  // of bfloat16 matrix products; a multiply-add is two
};

// True experts per token and layer when all n + m are picked alike: k n / (n + m).
double BalancedLoad(const ModelConfig& config);

// Distinct experts of a layer that `num_tokens` tokens run, each `load` of `num_experts`
// independently: n (1 - (1 - load / n)^num_tokens).
double DistinctExperts(int32_t num_experts, double load, int64_t num_tokens);

// One step.
struct StepWork {
  int64_t num_tokens = 0;
  int64_t num_logit_rows = 0;
  double load = 0.0;            // true experts per token and layer
  double keys_per_token = 0.0;  // cached positions that a token attends to, mean
  double cached_positions = 0;  // positions whose keys and values are read
};

double StepBytes(const ModelConfig& config, const StepWork& work);
double StepFlops(const ModelConfig& config, const StepWork& work);

// The larger of the times for its bytes and its FLOPs.
double StepSecondsAtLeast(const ModelConfig& config, const StepWork& work,
                          const DeviceRates& rates);

// A step that decodes one token of each of `batch` sequences of `context` positions.
StepWork DecodeWork(int64_t batch, double load, int64_t context);
// A step that runs a whole prompt and wants the last position's logits.
StepWork PrefillWork(int64_t num_tokens, double load);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_BENCH_ROOFLINE_H_
