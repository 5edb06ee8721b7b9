// One Generate call, written to a terminal, a pipe or as JSON while it runs.
#ifndef ADAMOE_CLIENT_CLI_GENERATION_H_
#define ADAMOE_CLIENT_CLI_GENERATION_H_

#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "adamoe/v1/inference.grpc.pb.h"

namespace adamoe {

struct OutputOptions {
  bool json = false;          // one JSON object per message, and nothing else
  bool show_experts = false;  // marks each token with the experts it used
  bool color = false;         // marks are colours; else numbers in brackets
  // Shows control characters as U+FFFD, so that generated text cannot command the terminal.
  bool is_terminal = false;
};

// A message as one line of JSON, with the field names of the .proto and with fields that are 0.
std::string ToJson(const google::protobuf::Message& message);

// `text` without control characters other than newline and tab.
std::string PrintableText(absl::string_view text);

// Runs `request`, writing its text to `out` as it comes, then log-probabilities where asked for and
// a line of usage. Returns the text. Errors are the call's, also after some text was written.
absl::StatusOr<std::string> Generate(v1::Inference::Stub* stub, const v1::GenerateRequest& request,
                                     absl::Duration timeout, const OutputOptions& options,
                                     std::ostream& out);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_GENERATION_H_
