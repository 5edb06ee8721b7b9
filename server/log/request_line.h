// What the log says of a request that has ended, and how it is written. Pure functions.
#ifndef ADAMOE_SERVER_LOG_REQUEST_LINE_H_
#define ADAMOE_SERVER_LOG_REQUEST_LINE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/log/traceparent.h"
#include "server/request/usage.h"

namespace adamoe {

enum class LogFormat { kText, kJson };

// Whatever came from outside may hold any bytes.
struct RequestLine {
  std::string request_id;  // empty: the request was not read so far
  std::string rpc;         // "Generate"
  std::string outcome;     // as requests_total has it
  absl::Status status;
  Usage usage;
  int32_t num_layers = 0;
  absl::Duration duration;  // from the call's arrival
  std::string peer;         // the client's address
  std::string caller;       // name of the token; empty: none
  std::optional<TraceContext> trace;
  std::optional<std::string> prompt;
};

// kText: "key=value ..." in printable ASCII, strings quoted and escaped as JSON's where they hold
// more than plain words. kJson: one object. Long strings are cut, the prompt to
// kMaxLoggedPromptBytes and the others to a few hundred bytes.
std::string FormatRequestLine(const RequestLine& line, LogFormat format);

inline constexpr size_t kMaxLoggedPromptBytes = 2048;

}  // namespace adamoe

#endif  // ADAMOE_SERVER_LOG_REQUEST_LINE_H_
