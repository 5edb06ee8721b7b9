// What the output of one request may look like, token by token: the executor asks it before each
// choice and tells it the token chosen. server/structured/ implements it; a test may do without
// xgrammar.
//
// Advances with output tokens only, so a preemption, which recomputes keys and values of tokens
// that are already out, does not concern it. The calls come from one thread at a time.
#ifndef ADAMOE_SERVER_REQUEST_TOKEN_MATCHER_H_
#define ADAMOE_SERVER_REQUEST_TOKEN_MATCHER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace adamoe {

// One bit per token id, id i in bit i % 32 of word i / 32.
using TokenMask = absl::Span<const uint32_t>;

inline size_t TokenMaskWords(int32_t vocab_size) {
  return (static_cast<size_t>(vocab_size) + 31) / 32;
}
inline bool IsAllowed(TokenMask mask, int32_t id) { return (mask[id / 32] >> (id % 32) & 1u) != 0; }

class TokenMatcher {
 public:
  virtual ~TokenMatcher() = default;

  // The tokens that may come next: [TokenMaskWords(vocab_size)], valid until the next Append. A
  // stop token of the request is among them exactly where the output may end; with no bit set the
  // output is complete. May wait for a bounded time. RESOURCE_EXHAUSTED when that was not enough
  // to work it out, INTERNAL when the matcher is at fault; the request cannot go on then.
  virtual absl::StatusOr<TokenMask> Allowed() = 0;

  // `token` is part of the output now. Does not block. REQUIRES: it was allowed.
  virtual void Append(int32_t token) = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_TOKEN_MATCHER_H_
