// Arithmetic on one row of logits, as the model gave it. Pure functions, thread-safe.
#ifndef ADAMOE_SERVER_EXECUTOR_LOGITS_H_
#define ADAMOE_SERVER_EXECUTOR_LOGITS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/request/token_sink.h"

namespace adamoe {

// INTERNAL when the row describes no distribution: it holds NaN or +infinity, or nothing but
// -infinity.
absl::Status CheckLogits(absl::Span<const float> logits);

// The largest logit's id, the lowest of equal ones. REQUIRES: not empty, no NaN.
int32_t ArgMax(absl::Span<const float> logits);

// log(sum(exp(logit))): what turns a logit into a log-probability. REQUIRES: CheckLogits.
float LogSumExp(absl::Span<const float> logits);

// The `count` most likely tokens (all, if there are fewer), most likely first, the lower id of
// equal ones first. REQUIRES: CheckLogits.
std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, float log_sum_exp,
                                      uint32_t count);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_EXECUTOR_LOGITS_H_
