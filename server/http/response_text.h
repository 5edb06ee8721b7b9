// Responses as HTTP/1.1 writes them. Pure functions but for the date.
#ifndef ADAMOE_SERVER_HTTP_RESPONSE_TEXT_H_
#define ADAMOE_SERVER_HTTP_RESPONSE_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "server/http/exchange.h"

namespace adamoe {

// Head and body; the head alone, with the body's length, without `with_body`.
std::string WholeResponse(const Reply& reply, bool closes, bool with_body);

// The head of a response whose body comes in pieces: chunks, or, for HTTP/1.0, until the end.
std::string StreamHead(const Reply& reply, bool closes, bool is_chunked);

// REQUIRES: not empty.
std::string Chunk(absl::string_view piece);
inline constexpr char kLastChunk[] = "0\r\n\r\n";

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_RESPONSE_TEXT_H_
