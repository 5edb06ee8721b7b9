// Where a request's tokens go. rpc/ implements it; the executor thread calls it.
//
// Order of calls: OnPromptTokens at most once, OnToken any number of times, OnFinish exactly once
// and last (also for a request that was cancelled or failed before it ran). All calls come from one
// thread at a time and must not block: a slow reader is the sink's own affair.
#ifndef ADAMOE_SERVER_REQUEST_TOKEN_SINK_H_
#define ADAMOE_SERVER_REQUEST_TOKEN_SINK_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "server/request/usage.h"

namespace adamoe {

struct TokenLogprob {
  int32_t id;
  float logprob;  // natural logarithm
};

// One generated token, or one position of a prompt.
struct TokenInfo {
  int32_t id = 0;
  // Natural-log probability under the model's own distribution (temperature 1, before penalties,
  // biases and filters), given the tokens before it. Unset where it was not asked for, and at
  // prompt position 0.
  std::optional<float> logprob;
  std::vector<TokenLogprob>
      top_logprobs;  // most likely first; as many as Request::num_top_logprobs
  // True experts run, summed over layers: for a generated token, in the forward pass of the
  // position it was sampled from; for a prompt position, of that position itself.
  uint32_t experts = 0;
  std::vector<uint32_t> experts_per_layer;  // only when Request::experts_per_layer
};

enum class FinishReason { kNone, kStopToken, kStopSequence, kLength };

struct Outcome {
  // Ok when the request came to its own end. Else CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE (shut
  // down), RESOURCE_EXHAUSTED (cannot fit the KV cache), INTERNAL, or as Request::matcher says.
  absl::Status status;
  FinishReason reason = FinishReason::kNone;  // set when status is ok and tokens were asked for
  Usage usage;
};

class TokenSink {
 public:
  enum class Next { kContinue, kStop };

  virtual ~TokenSink() = default;

  // Positions [Request::prompt_info_from, prompt length), then Request::scored_next_token where
  // there is one (its experts are 0: it is not run), once, before the first token. Called only when
  // Request::prompt_info_from is set.
  virtual void OnPromptTokens(std::vector<TokenInfo> tokens) = 0;

  // The next token. kStop ends the request with reason kStopSequence (a stop string matched).
  virtual Next OnToken(TokenInfo token) = 0;

  virtual void OnFinish(const Outcome& outcome) = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_TOKEN_SINK_H_
