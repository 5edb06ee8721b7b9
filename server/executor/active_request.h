// A request from its arrival at the executor to its end: what it asked for, where it stands, what
// it cost. Executor thread only.
#ifndef ADAMOE_SERVER_EXECUTOR_ACTIVE_REQUEST_H_
#define ADAMOE_SERVER_EXECUTOR_ACTIVE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "server/executor/sampler.h"
#include "server/model/model.h"
#include "server/queue/request_queue.h"
#include "server/request/request.h"
#include "server/request/sequence.h"

namespace adamoe {

struct ActiveRequest {
  // `seed` is used where the request brings none.
  ActiveRequest(RequestTicket ticket, std::unique_ptr<Request> owned, uint64_t seed,
                const ModelDimensions& dimensions);

  int32_t num_prompt_tokens() const { return static_cast<int32_t>(request->prompt.size()); }
  uint32_t num_output_tokens() const { return sampler.num_output_tokens(); }

  // The token at a position of the prompt, or scored behind it.
  int32_t ScoredToken(int32_t position) const {
    const bool in_prompt = position < num_prompt_tokens();
    return in_prompt ? request->prompt[position] : *request->scored_next_token;
  }

  bool ran_every_token() const { return sequence.num_computed == sequence.num_tokens(); }

  // Whether the logits of this position are wanted: to sample from, or to score the prompt's next
  // token with.
  bool WantsLogits(int32_t position) const;

  // OnPromptTokens is still to come.
  bool owes_prompt_infos() const { return first_prompt_info >= 0; }

  // Whether information about this position, or about the token scored behind the prompt, is owed.
  bool AsksAbout(int32_t position) const;

  // Where the information about this position goes; null for one that was not asked about.
  TokenInfo* PromptInfoAt(int32_t position);

  // Positions below `end` have been run or taken from the cache. Returns how many prompt positions
  // that is for the first time.
  uint32_t AdvancePrompt(int32_t end);

  // The prompt's information has been handed over: the whole prefix may come from the cache from
  // now on.
  std::vector<TokenInfo> TakePromptInfos();

  // Fills in the parts of usage that are times, for a request that ends now.
  void CloseUsage(absl::Time now);

  const std::unique_ptr<Request> request;
  const uint32_t max_output_tokens;
  Sequence sequence;
  Sampler sampler;
  Usage usage;

  // Positions [first_prompt_info, prompt length), and Request::scored_next_token behind them,
  // filled as they are run; -1 when not asked for or handed over.
  int32_t first_prompt_info = -1;
  std::vector<TokenInfo> prompt_infos;

  int32_t prompt_progress =
      0;  // prompt positions that have been run, or taken from the cache, at least once
  bool scheduled = false;        // has been admitted at least once
  bool output_complete = false;  // its matcher allows no further token
  absl::Time schedule_time;      // when that was
  absl::Time first_token_time;
  absl::Time last_token_time;
};

using ActiveRequests = absl::flat_hash_map<RequestTicket, std::unique_ptr<ActiveRequest>>;

}  // namespace adamoe

#endif  // ADAMOE_SERVER_EXECUTOR_ACTIVE_REQUEST_H_
