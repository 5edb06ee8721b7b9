// How many prompt tokens a step may hold while other sequences decode.
//
// Such a step takes longer than one that only decodes, and every running stream waits for it. The
// pacer learns the time of a decode-only step and the extra time per prompt token, and bounds the
// chunk so that a step takes about `min_slowdown` times a decode-only one: time is shared equally.
// Where more prompts wait than streams run, prompts get a share as large as theirs among both, up
// to `max_slowdown`: few streams must not hold back a crowd. Thread-compatible.
#ifndef ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_
#define ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_

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

  // Tokens for `num_prompts` that are in prefill or wait for it, beside `num_streams` that decode.
  // At least 1. REQUIRES: num_streams >= 1.
  int32_t Chunk(int32_t num_prompts, int32_t num_streams) const;

  // A step that held so many tokens of each kind took `elapsed`.
  void OnStep(int32_t num_decode_tokens, int32_t num_prefill_tokens, absl::Duration elapsed);

 private:
  const Options options_;
  // Moving averages in seconds; 0: not measured yet.
  double decode_step_ = 0;
  double per_prefill_token_ = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_
