// What the host needs of a row of logits to choose greedily and report log-probabilities, without
// copying the row. The contracts at the top of cuda_types.h hold.
//
// Drawing stays on the host (server/executor/sampler.h): penalties, logit_bias, and a random number
// that is a function of (seed, output index) are kept there per sequence.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_SAMPLING_H_
#define ADAMOE_SERVER_KERNELS_CUDA_SAMPLING_H_

#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"

namespace adamoe::cuda {

// 12 bytes, as the device writes it.
struct RowSummary {
  int32_t argmax = 0;        // lowest id of the largest logit; -1 if a logit is NaN
  float max = 0.0f;          // the largest logit; NaN if one is
  float log_sum_exp = 0.0f;  // log of the sum of exp(logit); log-probability = logit - this
};

// logits: [num_rows, vocab]; summaries: [num_rows].
cudaError_t SummarizeRows(const float* logits, int32_t num_rows, int32_t vocab,
                          RowSummary* summaries, cudaStream_t stream);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_SAMPLING_H_
