// UTF-8 at the edge of the server: what comes in is checked, what goes out is mended. Pure
// functions.
#ifndef ADAMOE_SERVER_SERVING_UTF8_H_
#define ADAMOE_SERVER_SERVING_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace adamoe {

// Offset of the first byte that is not part of a well-formed character; text.size() when there is
// none.
size_t FirstInvalidUtf8(absl::string_view text);

// `bytes` with every byte that is not part of a well-formed character as U+FFFD.
std::string MendUtf8(absl::string_view bytes);

// Bytes of white space, as Unicode has it, at the end of `text`. REQUIRES: well-formed.
size_t TrailingSpaceBytes(absl::string_view text);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_UTF8_H_
