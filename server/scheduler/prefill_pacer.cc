#include "server/scheduler/prefill_pacer.h"

#include <algorithm>

namespace adamoe {
namespace {

constexpr double kWeightOfLast = 0.2;
constexpr int32_t kMaxChunk = 1 << 20;

void Average(double value, double* average) {
  *average = *average == 0 ? value : *average + kWeightOfLast * (value - *average);
}

}  // namespace

int32_t PrefillPacer::Chunk(int32_t num_prompts, int32_t num_streams) const {
  if (options_.fixed_chunk > 0) return options_.fixed_chunk;
  if (decode_step_ <= 0 || per_prefill_token_ <= 0) return options_.initial_chunk;
  const double slowdown = std::clamp(1.0 + static_cast<double>(num_prompts) / num_streams,
                                     options_.min_slowdown, options_.max_slowdown);
  const double room = (slowdown - 1) * decode_step_;
  const double tokens = std::min<double>(room / per_prefill_token_, kMaxChunk);
  return std::max(options_.min_chunk, static_cast<int32_t>(tokens));
}

void PrefillPacer::OnStep(int32_t num_decode_tokens, int32_t num_prefill_tokens,
                          absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (seconds <= 0) return;
  if (num_prefill_tokens > 0) {
    // A step no slower than a decode-only one says that prompt tokens are cheap, not that they are
    // free.
    const double extra = std::max(seconds - decode_step_, 0.01 * seconds);
    Average(extra / num_prefill_tokens, &per_prefill_token_);
  } else if (num_decode_tokens > 0) {
    Average(seconds, &decode_step_);
  }
}

}  // namespace adamoe
