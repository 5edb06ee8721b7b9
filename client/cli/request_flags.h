// The flags that describe a request, and the messages they make. The server checks the values; only
// what cannot be put into a message is an error here (INVALID_ARGUMENT, naming the flag).
#ifndef ADAMOE_CLIENT_CLI_REQUEST_FLAGS_H_
#define ADAMOE_CLIENT_CLI_REQUEST_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adamoe/v1/inference.pb.h"

ABSL_DECLARE_FLAG(std::vector<std::string>, prompt_tokens);
ABSL_DECLARE_FLAG(std::string, request_id);

namespace adamoe {

// "1,2,3" or {"1", "2", "3"} -> ids. `what` names them in errors.
absl::StatusOr<std::vector<uint32_t>> ParseIds(const std::vector<std::string>& ids,
                                               absl::string_view what);

// Everything of a GenerateRequest but its prompt or messages; --prompt_tokens is set where given.
absl::StatusOr<v1::GenerateRequest> GenerateRequestFromFlags();

// --null_bias and --max_experts_per_token.
v1::Compute ComputeFromFlags();

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_REQUEST_FLAGS_H_
