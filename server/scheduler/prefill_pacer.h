// How many prompt tokens a step may hold while other sequences decode.
//
// Such a step takes longer than one that only decodes, and every running stream waits for it. The
// pacer learns the time of a decode-only step and the extra time per prompt token, and bounds the
// chunk so that a step takes about `target_slowdown` times a decode-only one. Thread-compatible.
#ifndef ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_
#define ADAMOE_SERVER_SCHEDULER_PREFILL_PACER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace adamoe {

class PrefillPacer {
 public:
  struct Options {
    int32_t fixed_chunk = 0;       // > 0: this many tokens, whatever the time
    double target_slowdown = 2.0;  // > 1; leaves room below three times
    int32_t min_chunk = 8;         // a prompt always gets on by this much
    int32_t initial_chunk = 32;    // before anything was measured
  };

  explicit PrefillPacer(const Options& options) : options_(options) {}

  // At least 1.
  int32_t chunk() const;

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
