// A request as the queue and the executor see it: token ids in, a sink for what comes out. Checked
// by serving/: ids lie in the vocabulary, the prompt is not empty, prompt and max_tokens fit the
// context.
#ifndef ADAMOE_SERVER_REQUEST_REQUEST_H_
#define ADAMOE_SERVER_REQUEST_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/request/compute_dial.h"
#include "server/request/sampling_params.h"
#include "server/request/structured_output.h"
#include "server/request/token_matcher.h"
#include "server/request/token_sink.h"

namespace adamoe {

struct Request {
  std::string id;               // for logs; need not be unique
  std::vector<int32_t> prompt;  // [num_prompt_tokens], at least one
  SamplingParams sampling;
  ComputeDial compute;
  int32_t priority = 0;  // higher goes sooner
  absl::Time deadline = absl::InfiniteFuture();
  // Set: log-probabilities of generated tokens, with so many alternatives each (0: the token's own
  // only).
  std::optional<uint32_t> num_top_logprobs;
  // Set: OnPromptTokens is called with the positions from here on. Positions up to the one before
  // it may come from the prefix cache, later ones are always run. 0: the cache is not read at all.
  std::optional<uint32_t> prompt_info_from;
  // Set: a token that is scored behind the prompt without being run, as the last of OnPromptTokens.
  // REQUIRES: sampling.max_tokens = 0, prompt_info_from is set.
  std::optional<int32_t> scored_next_token;
  bool experts_per_layer = false;
  // Set: the output has this form. Whoever submits the request has GrammarService::Prepare make
  // `matcher` of it first.
  std::optional<StructuredOutput> structured;
  std::shared_ptr<TokenMatcher> matcher;  // null: any token may come. Of this request alone
  std::shared_ptr<TokenSink> sink;        // not null
  absl::Time submit_time;                 // set by RequestQueue::Submit
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_REQUEST_H_
