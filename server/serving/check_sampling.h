// How tokens are to be chosen, as a request has it, checked against the limits that inference.proto
// documents. Errors as in field_checks.h. Pure but for the seed that a request without one is
// given; thread-safe.
#ifndef ADAMOE_SERVER_SERVING_CHECK_SAMPLING_H_
#define ADAMOE_SERVER_SERVING_CHECK_SAMPLING_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/request/sampling_params.h"
#include "server/serving/served_model.h"

namespace adamoe {

namespace v1 {
class Sampling;
}  // namespace v1

// REQUIRES: the prompt leaves room for a token in the context.
absl::StatusOr<SamplingParams> CheckSampling(const v1::Sampling& proto, uint32_t num_prompt_tokens,
                                             const ServedModel& model);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CHECK_SAMPLING_H_
