#include "server/executor/active_request.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace adamoe {
namespace {

// Keys and values depend on the dial, so only requests of equal dials share cached blocks.
uint64_t CacheSalt(const ComputeDial& dial) {
  const float null_bias = dial.null_bias == 0 ? 0.0f : dial.null_bias;  // -0 is 0
  uint32_t bits;
  std::memcpy(&bits, &null_bias, sizeof(bits));
  return uint64_t{bits} << 32 | dial.max_experts_per_token;
}

// The last sampled token is never run, so one more than the context still holds can be generated.
uint32_t MaxOutputTokens(const Request& request, const ModelDimensions& dimensions) {
  const int64_t room = dimensions.max_context_tokens - int64_t(request.prompt.size()) + 1;
  return static_cast<uint32_t>(
      std::min<int64_t>(request.sampling.max_tokens, std::max<int64_t>(room, 0)));
}

}  // namespace

ActiveRequest::ActiveRequest(RequestTicket ticket, std::unique_ptr<Request> owned, uint64_t seed,
                             const ModelDimensions& dimensions)
    : request(std::move(owned)),
      max_output_tokens(MaxOutputTokens(*request, dimensions)),
      sampler(&request->sampling, seed, request->prompt) {
  sequence.id = ticket;
  sequence.priority = request->priority;
  sequence.arrival = request->submit_time;
  sequence.cache_salt = CacheSalt(request->compute);
  sequence.tokens = request->prompt;
  sequence.max_cached_tokens = std::numeric_limits<int32_t>::max();
  sequence.max_positions =
      num_prompt_tokens() + static_cast<int32_t>(std::max(max_output_tokens, 1u)) - 1;
  const int32_t num_scored_next = request->scored_next_token.has_value() ? 1 : 0;
  usage.prompt_tokens = static_cast<uint32_t>(num_prompt_tokens() + num_scored_next);
  if (!request->prompt_info_from) return;
  first_prompt_info =
      static_cast<int32_t>(std::min<size_t>(*request->prompt_info_from, request->prompt.size()));
  prompt_infos.resize(num_prompt_tokens() + num_scored_next - first_prompt_info);
  // The first of them is scored by the logits of the position before it, so that one is run as
  // well.
  sequence.max_cached_tokens = std::max(first_prompt_info - 1, 0);
}

bool ActiveRequest::WantsLogits(int32_t position) const {
  if (position == sequence.num_tokens() - 1 && max_output_tokens > 0) return true;
  return AsksAbout(position + 1);
}

TokenInfo* ActiveRequest::PromptInfoAt(int32_t position) {
  return AsksAbout(position) ? &prompt_infos[position - first_prompt_info] : nullptr;
}

bool ActiveRequest::AsksAbout(int32_t position) const {
  return owes_prompt_infos() && position >= first_prompt_info &&
         position - first_prompt_info < static_cast<int32_t>(prompt_infos.size());
}

uint32_t ActiveRequest::AdvancePrompt(int32_t end) {
  const int32_t reached = std::min(end, num_prompt_tokens());
  const int32_t num_new = std::max(reached - prompt_progress, 0);
  prompt_progress += num_new;
  return static_cast<uint32_t>(num_new);
}

std::vector<TokenInfo> ActiveRequest::TakePromptInfos() {
  first_prompt_info = -1;
  sequence.max_cached_tokens = std::numeric_limits<int32_t>::max();
  return std::move(prompt_infos);
}

void ActiveRequest::CloseUsage(absl::Time now) {
  usage.completion_tokens = num_output_tokens();
  if (!scheduled) {
    usage.queue_time = now - request->submit_time;
    return;
  }
  const bool has_token = num_output_tokens() > 0;
  usage.queue_time = schedule_time - request->submit_time;
  usage.prefill_time = (has_token ? first_token_time : now) - schedule_time;
  if (has_token) usage.decode_time = last_token_time - first_token_time;
}

}  // namespace adamoe
