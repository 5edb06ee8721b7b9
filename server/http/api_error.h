// Errors as OpenAI's clients know them. Pure functions.
#ifndef ADAMOE_SERVER_HTTP_API_ERROR_H_
#define ADAMOE_SERVER_HTTP_API_ERROR_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/http/exchange.h"

namespace adamoe {

struct ApiError {
  int status = 500;
  std::string json;             // {"error":{"message","type","param","code"}}
  std::vector<Header> headers;  // beside the usual ones: Retry-After, WWW-Authenticate

  Reply ToReply() const;
};

// `status`, which is not ok. A field that it names, as FieldError has it, is the error's `param`.
ApiError ToApiError(const absl::Status& status);

// One that is HTTP's own: `status` is its number, such as 404.
ApiError HttpError(int status, absl::string_view message);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_API_ERROR_H_
