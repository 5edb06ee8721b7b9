// Errors that tell a client what to change: an absl::Status whose payload is the google.rpc detail
// that grpc_codec.h puts on the wire. Pure functions.
#ifndef ADAMOE_SERVER_SERVING_REQUEST_ERRORS_H_
#define ADAMOE_SERVER_SERVING_REQUEST_ERRORS_H_

#include <google/protobuf/message.h>

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace adamoe {

// INVALID_ARGUMENT "field: problem", with a BadRequest detail. `field` is a path as in
// "sampling.stop[2]"; `problem` says the value and what is allowed. Both must be UTF-8.
absl::Status FieldError(absl::string_view field, absl::string_view problem);

// `status`, which came of `field`, as a FieldError where it is INVALID_ARGUMENT or OUT_OF_RANGE;
// else as it is.
absl::Status FieldError(absl::string_view field, const absl::Status& status);

// Whether `status` has a detail of this type, which then fills *detail.
bool ReadDetail(const absl::Status& status, google::protobuf::Message* detail);

// The same with the name that a client of another protocol knows the field by. A status that is no
// FieldError stays as it is.
absl::Status WithFieldRenamed(const absl::Status& status,
                              absl::FunctionRef<std::string(absl::string_view field)> rename);

// The same status with a RetryInfo detail.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_REQUEST_ERRORS_H_
