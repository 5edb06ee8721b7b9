// Files of an operator's: certificates, keys, tokens. Thread-safe.
#ifndef ADAMOE_SERVER_SECURITY_SMALL_FILE_H_
#define ADAMOE_SERVER_SECURITY_SMALL_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace adamoe {

inline constexpr size_t kMaxSmallFileBytes = 1 << 20;

// All of a file. Errors name the path: it cannot be read, is no regular file, or is larger than
// kMaxSmallFileBytes.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SECURITY_SMALL_FILE_H_
