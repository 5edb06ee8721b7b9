#include "server/http/response_text.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace adamoe {
namespace {

absl::string_view ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Internal Server Error";
  }
}

std::string Head(const Reply& reply, bool closes) {
  std::string text = absl::StrCat(
      "HTTP/1.1 ", reply.status, " ", ReasonOf(reply.status),
      "\r\nDate: ", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
      "\r\nContent-Type: ", reply.content_type, "\r\n");
  for (const Header& header : reply.headers) {
    absl::StrAppend(&text, header.name, ": ", header.value, "\r\n");
  }
  absl::StrAppend(&text, closes ? "Connection: close\r\n" : "Connection: keep-alive\r\n");
  return text;
}

}  // namespace

std::string WholeResponse(const Reply& reply, bool closes, bool with_body) {
  return absl::StrCat(Head(reply, closes), "Content-Length: ", reply.body.size(), "\r\n\r\n",
                      with_body ? reply.body : "");
}

std::string StreamHead(const Reply& reply, bool closes, bool is_chunked) {
  return absl::StrCat(Head(reply, closes), is_chunked ? "Transfer-Encoding: chunked\r\n" : "",
                      "\r\n");
}

std::string Chunk(absl::string_view piece) {
  return absl::StrCat(absl::Hex(piece.size()), "\r\n", piece, "\r\n");
}

}  // namespace adamoe
