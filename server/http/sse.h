// Server-sent events: how a stream of JSON goes over HTTP.
#ifndef ADAMOE_SERVER_HTTP_SSE_H_
#define ADAMOE_SERVER_HTTP_SSE_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace adamoe {

inline constexpr char kSseContentType[] = "text/event-stream; charset=utf-8";

// `data` holds no line feed.
inline void AddSseEvent(absl::string_view data, std::string& text) {
  absl::StrAppend(&text, "data: ", data, "\n\n");
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_SSE_H_
