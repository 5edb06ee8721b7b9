// The body of a request as JSON. Hostile text is normal: what is not JSON to the letter, nests too
// deep, names a member twice or holds what is not UTF-8 is refused. Takes time in proportion to the
// text, and memory of at most some tens of times its size. Pure functions.
#ifndef ADAMOE_SERVER_HTTP_JSON_DOCUMENT_H_
#define ADAMOE_SERVER_HTTP_JSON_DOCUMENT_H_

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adamoe {

// Members keep their order: the properties of a JSON schema come out in the order they have in it.
using Json = nlohmann::ordered_json;

// Objects and arrays within each other, at most.
inline constexpr int kMaxJsonDepth = 64;

// An object, or INVALID_ARGUMENT that says what is wrong and where.
absl::StatusOr<Json> ParseJsonObject(absl::string_view text);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_JSON_DOCUMENT_H_
