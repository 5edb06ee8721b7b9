#include "server/scheduler/prefill_pacer.h"

#include <algorithm>

namespace adamoe {
namespace {

constexpr double kWeightOfLast = 0.2;
constexpr int32_t kMaxChunk = 1 << 20;

void Average(double value, double* average) {
  *average = *average == 0 ? value : *average + kWeightOfLast * (value - *average);
}

// floor(log2(n)), n >= 1.
int Log2(int32_t n) { return 31 - __builtin_clz(static_cast<uint32_t>(n)); }

}  // namespace

int32_t PrefillPacer::Chunk(int32_t num_prompts, int32_t num_streams) const {
  if (options_.fixed_chunk > 0) return options_.fixed_chunk;
  const double decode_step = DecodeStep(num_streams);
  if (decode_step <= 0 || per_prefill_token_ <= 0) return options_.initial_chunk;
  const double slowdown = std::clamp(1.0 + num_prompts, 2.0, options_.max_slowdown);
  const double room = (slowdown - 1) * decode_step;
  const double tokens = std::min<double>(room / per_prefill_token_, kMaxChunk);
  return std::max(options_.min_chunk, static_cast<int32_t>(tokens));
}

double PrefillPacer::DecodeStep(int32_t num_streams) const {
  const int size = static_cast<int>(decode_step_.size());
  const int wanted = Log2(num_streams);
  for (int distance = 0; distance < size; ++distance) {
    for (const int i : {wanted + distance, wanted - distance}) {
      if (i >= 0 && i < size && decode_step_[i] > 0) return decode_step_[i];
    }
  }
  return 0;
}

void PrefillPacer::OnStep(int32_t num_decode_tokens, int32_t num_prefill_tokens,
                          absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (seconds <= 0) return;
  if (num_prefill_tokens > 0) {
    // A step no slower than a decode-only one says that prompt tokens are cheap, not that they are
    // free.
    const double base = num_decode_tokens > 0 ? DecodeStep(num_decode_tokens) : 0;
    const double extra = std::max(seconds - base, 0.01 * seconds);
    Average(extra / num_prefill_tokens, &per_prefill_token_);
  } else if (num_decode_tokens > 0) {
    Average(seconds, &decode_step_[Log2(num_decode_tokens)]);
  }
}

}  // namespace adamoe
