// A Generate as it came, checked against every limit that inference.proto documents, and turned
// into what the executor takes. Errors as in field_checks.h. Pure but for the seed and the id that
// a request without one is given; thread-safe.
#ifndef ADAMOE_SERVER_SERVING_CHECK_GENERATE_H_
#define ADAMOE_SERVER_SERVING_CHECK_GENERATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/request/request.h"
#include "server/request/structured_output.h"
#include "server/serving/served_model.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

namespace v1 {
class GenerateRequest;
}  // namespace v1

struct CheckedGenerate {
  std::unique_ptr<Request> request;  // without sink and deadline
  std::vector<std::string> stops;
};

absl::StatusOr<CheckedGenerate> CheckGenerate(const v1::GenerateRequest& proto,
                                              const Tokenizer& tokenizer, const ServedModel& model);

// The field that `structured` came from, as errors name it.
absl::string_view FieldOf(const StructuredOutput& structured);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CHECK_GENERATE_H_
