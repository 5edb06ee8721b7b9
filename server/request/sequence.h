// A request's tokens and where their keys and values lie: what the scheduler plans with. Plain
// values, executor thread only.
#ifndef ADAMOE_SERVER_REQUEST_SEQUENCE_H_
#define ADAMOE_SERVER_REQUEST_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace adamoe {

struct Sequence {
  // Set by the owner.
  uint64_t id = 0;       // unique; rises in order of arrival
  int32_t priority = 0;  // higher goes sooner
  absl::Time arrival;
  uint64_t cache_salt = 0;        // sequences share cached blocks only where this is equal
  int32_t max_cached_tokens = 0;  // positions at most that may come from the prefix cache
  int32_t max_positions = 0;      // positions at most that will ever be run
  std::vector<int32_t> tokens;    // the prompt, then what was generated; never empty

  // Set by the scheduler. Positions [0, num_computed) have their keys and values in `blocks`.
  std::vector<int32_t> blocks;  // KV block ids, in order of position
  int32_t num_computed = 0;
  int32_t num_cached = 0;  // of which came from the prefix cache when it was last admitted
  // Positions below are run as prefill: the tokens there were when the sequence was last admitted.
  int32_t prefill_end = 0;
  int32_t num_keyed_blocks = 0;  // leading blocks whose name in the prefix cache is known
  uint64_t prefix = 0;           // PrefixId of the last of these

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  bool decoding() const { return num_computed >= prefill_end; }
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_SEQUENCE_H_
