// A Score as it came, checked against every limit that inference.proto documents. Errors as in
// field_checks.h. Pure but for the id that a request without one is given; thread-safe.
#ifndef ADAMOE_SERVER_SERVING_CHECK_SCORE_H_
#define ADAMOE_SERVER_SERVING_CHECK_SCORE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/request/compute_dial.h"
#include "server/serving/served_model.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

namespace v1 {
class ScoreRequest;
}  // namespace v1

struct CheckedScore {
  std::string id;
  std::vector<int32_t> context;                     // at least one token
  std::vector<std::vector<int32_t>> continuations;  // each at least one token
  ComputeDial compute;
};

absl::StatusOr<CheckedScore> CheckScore(const v1::ScoreRequest& proto, const Tokenizer& tokenizer,
                                        const ServedModel& model);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CHECK_SCORE_H_
