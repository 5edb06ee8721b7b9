// The W3C's trace context (https://www.w3.org/TR/trace-context/): which trace a request belongs to.
// Thread-safe.
#ifndef ADAMOE_SERVER_LOG_TRACEPARENT_H_
#define ADAMOE_SERVER_LOG_TRACEPARENT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace adamoe {

struct TraceContext {
  std::string trace_id;   // 32 lower-case hexadecimal digits
  std::string parent_id;  // 16: the caller's span
  std::string span_id;    // 16: the request's own span, made here
};

// Nothing when `header`, the value of a traceparent header, is not one to the letter.
std::optional<TraceContext> ParseTraceparent(absl::string_view header);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_LOG_TRACEPARENT_H_
