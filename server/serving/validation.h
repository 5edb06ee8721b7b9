// Requests as they came, checked against every limit that inference.proto documents, and turned
// into what the executor takes. Errors are INVALID_ARGUMENT with a BadRequest detail that names the
// field, its value and what is allowed. Pure functions but for the seed and the id that a request
// without one is given; thread-safe.
#ifndef ADAMOE_SERVER_SERVING_VALIDATION_H_
#define ADAMOE_SERVER_SERVING_VALIDATION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/request/compute_dial.h"
#include "server/request/request.h"
#include "server/request/structured_output.h"
#include "server/serving/served_model.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

namespace v1 {
class GenerateRequest;
class ScoreRequest;
}  // namespace v1

struct CheckedGenerate {
  std::unique_ptr<Request> request;  // without sink and deadline
  std::vector<std::string> stops;
};

// The field that `structured` came from, as errors name it.
absl::string_view FieldOf(const StructuredOutput& structured);

absl::StatusOr<CheckedGenerate> CheckGenerate(const v1::GenerateRequest& proto,
                                              const Tokenizer& tokenizer, const ServedModel& model);

struct CheckedScore {
  std::string id;
  std::vector<int32_t> context;                     // at least one token
  std::vector<std::vector<int32_t>> continuations;  // each at least one token
  ComputeDial compute;
};

absl::StatusOr<CheckedScore> CheckScore(const v1::ScoreRequest& proto, const Tokenizer& tokenizer,
                                        const ServedModel& model);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_VALIDATION_H_
