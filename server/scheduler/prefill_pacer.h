// How many prompt tokens a step may hold while other sequences decode.
//
// Such a step takes longer than one that only decodes, and every running stream waits for it. The
// pacer learns the time of a decode-only step by its number of streams (in powers of two; the
// nearest known one stands in for others) and the extra time per prompt token, and bounds the chunk
// so that each prompt adds about the time of a decode-only step: one prompt doubles a step, several
// get on together, as they would be wanted in the batch as soon as possible, up to `max_slowdown`.
// Thread-compatible.
#ifndef ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_
#define ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_

#include <array>
#include <cstdint>

#include "absl/time/time.h"

namespace adamoe {

class PrefillPacer {
 public:
  struct Options {
    int32_t fixed_chunk = 0;     // > 0: this many tokens, whatever the time
    double min_slowdown = 2.0;   // > 1; leaves room below three times
    double max_slowdown = 8.0;   // >= min_slowdown
    int32_t min_chunk = 8;       // a prompt always gets on by this much
    int32_t initial_chunk = 32;  // before anything was measured
  };

  explicit PrefillPacer(const Options& options) : options_(options) {}

  // Tokens for `num_prompts` that are in prefill or could be, beside `num_streams` that decode. At
  // least 1. REQUIRES: num_prompts >= 0; num_streams >= 1.
  int32_t Chunk(int32_t num_prompts, int32_t num_streams) const;

  // A step that held so many tokens of each kind took `elapsed`.
  void OnStep(int32_t num_decode_tokens, int32_t num_prefill_tokens, absl::Duration elapsed);

 private:
  double DecodeStep(int32_t num_streams) const;

  const Options options_;
  // Moving averages in seconds; 0: not measured yet.
  std::array<double, 31> decode_step_ = {};  // of [2^i, 2^(i + 1)) streams
  double per_prefill_token_ = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_
