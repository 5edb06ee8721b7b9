#include "server/kernels/cuda/sampling.h"

#include <cmath>

#include "server/kernels/cuda/device.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kThreads = 1024;
constexpr int32_t kWarps = kThreads / kWarpSize;

struct Largest {
  float value = -INFINITY;
  int32_t id = INT32_MAX;
  int32_t has_nan = 0;
};

// Of equal values the lower id.
__device__ Largest Larger(const Largest& a, const Largest& b) {
  const bool first = a.value > b.value || (a.value == b.value && a.id < b.id);
  Largest out = first ? a : b;
  out.has_nan = a.has_nan | b.has_nan;
  return out;
}

// A block per row, in two passes over it.
__global__ void __launch_bounds__(kThreads)
    SummarizeKernel(const float* all_logits, int32_t vocab, RowSummary* summaries) {
  __shared__ Largest of_warp[kWarps];
  __shared__ float partial[kWarps];
  const float* logits = all_logits + static_cast<int64_t>(blockIdx.x) * vocab;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);

  Largest best;
  for (int32_t id = thread; id < vocab; id += kThreads) {
    const float logit = logits[id];
    best = Larger(best, {logit, id, logit != logit});
  }
  for (int32_t offset = kWarpSize / 2; offset > 0; offset /= 2) {
    Largest other;
    other.value = ShuffleXor(best.value, offset);
    other.id = ShuffleXor(best.id, offset);
    other.has_nan = ShuffleXor(best.has_nan, offset);
    best = Larger(best, other);
  }
  if (thread % kWarpSize == 0) of_warp[thread / kWarpSize] = best;
  __syncthreads();
  for (int32_t w = 0; w < kWarps; ++w) best = Larger(best, of_warp[w]);

  float sum = 0.0f;
  for (int32_t id = thread; id < vocab; id += kThreads) {
    const float logit = logits[id];
    sum += logit == best.value ? 1.0f : expf(logit - best.value);  // equality serves infinities
  }
  sum = BlockSum(sum, partial);
  if (thread == 0) {
    RowSummary summary;
    summary.argmax = best.has_nan != 0 ? -1 : best.id;
    summary.max = best.has_nan != 0 ? NAN : best.value;
    summary.log_sum_exp = best.has_nan != 0 ? NAN : best.value + logf(sum);
    summaries[blockIdx.x] = summary;
  }
}

}  // namespace

cudaError_t SummarizeRows(const float* logits, int32_t num_rows, int32_t vocab,
                          RowSummary* summaries, cudaStream_t stream) {
  if (vocab < 1) return cudaErrorInvalidValue;
  if (num_rows == 0) return cudaSuccess;
  return Launch(SummarizeKernel, {dim3(static_cast<unsigned>(num_rows)), kThreads, 0}, stream,
                logits, vocab, summaries);
}

}  // namespace adamoe::cuda
