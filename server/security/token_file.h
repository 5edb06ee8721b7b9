// The file of bearer tokens: one per line, "TOKEN" or "NAME TOKEN"; what follows # is a comment.
//
//   # rotated monthly
//   team-a  mJv0Yw6Lk1s...
//   team-a  Zb71cQx9Tq8...   # both are good until the first goes
//
// Tokens are kept as their SHA-256 only. Thread-safe.
#ifndef ADAMOE_SERVER_SECURITY_TOKEN_FILE_H_
#define ADAMOE_SERVER_SECURITY_TOKEN_FILE_H_

#include <array>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adamoe {

using TokenDigest = std::array<unsigned char, 32>;

TokenDigest DigestOf(absl::string_view token);

struct TokenEntry {
  std::string name;  // "line-N" for a token without one
  TokenDigest digest;
};

// INVALID_ARGUMENT names the line and what is wrong with it, never what stands there. A file
// without any token is refused: nobody could call.
absl::StatusOr<std::vector<TokenEntry>> ParseTokenFile(absl::string_view content);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SECURITY_TOKEN_FILE_H_
