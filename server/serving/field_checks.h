// Checks of one field each, for the requests of every method. An error is INVALID_ARGUMENT with a
// BadRequest detail that names `field`, its value and what is allowed. Thread-safe.
#ifndef ADAMOE_SERVER_SERVING_FIELD_CHECKS_H_
#define ADAMOE_SERVER_SERVING_FIELD_CHECKS_H_

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/request/compute_dial.h"
#include "server/serving/served_model.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

namespace v1 {
class Compute;
}  // namespace v1

using TokenIdField = google::protobuf::RepeatedField<uint32_t>;

// A number that must lie in [min, max], or in (min, max].
struct Range {
  const char* field;
  float value;
  float min;
  float max;
  bool min_excluded = false;
};
absl::Status CheckRange(const Range& range);

absl::Status CheckCount(absl::string_view field, size_t count, size_t max);
absl::Status CheckNotEmpty(absl::string_view field, size_t num_tokens);

absl::Status CheckId(absl::string_view field, uint32_t id, const ServedModel& model);
absl::StatusOr<std::vector<int32_t>> CheckIds(absl::string_view field, const TokenIdField& ids,
                                              const ServedModel& model);

// What cannot fit is not worth the time that tokenizing it takes.
absl::Status CheckTextBytes(absl::string_view field, size_t num_bytes, const ServedModel& model);

// Tokens of a text, which the model must know too: a folder's tokenizer may be larger than its
// model.
absl::StatusOr<std::vector<int32_t>> EncodeField(absl::string_view field, absl::string_view text,
                                                 const Tokenizer& tokenizer,
                                                 const ServedModel& model);

// `id`, or a new one where it is empty.
absl::StatusOr<std::string> CheckRequestId(const std::string& id);

absl::StatusOr<ComputeDial> CheckCompute(const v1::Compute& compute);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_FIELD_CHECKS_H_
