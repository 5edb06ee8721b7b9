#include "server/security/token_file.h"

#include <openssl/sha.h>

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace adamoe {
namespace {

constexpr size_t kMaxTokens = 10000;
constexpr size_t kMaxTokenBytes = 4096;  // gRPC takes 8 KiB of metadata
constexpr size_t kMaxNameBytes = 128;

bool IsVisible(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isgraph(c); });
}

}  // namespace

TokenDigest DigestOf(absl::string_view token) {
  TokenDigest digest;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
  return digest;
}

absl::StatusOr<std::vector<TokenEntry>> ParseTokenFile(absl::string_view content) {
  std::vector<TokenEntry> entries;
  std::map<TokenDigest, int> lines;
  int number = 0;
  const auto error = [&number](auto... problem) {
    return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", problem...));
  };
  for (const absl::string_view line : absl::StrSplit(content, '\n')) {
    ++number;
    const absl::string_view text = line.substr(0, line.find('#'));
    const std::vector<absl::string_view> words =
        absl::StrSplit(text, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (words.size() > 2) return error("more than a name and a token");
    const absl::string_view token = words.back();
    if (!IsVisible(token) || !IsVisible(words.front())) {
      return error("a character that is not visible ASCII");
    }
    if (token.size() > kMaxTokenBytes) {
      return error("a token of ", token.size(), " bytes, at most ", kMaxTokenBytes, " are allowed");
    }
    const std::string name =
        words.size() == 2 ? std::string(words.front()) : absl::StrCat("line-", number);
    if (name.size() > kMaxNameBytes) {
      return error("a name of ", name.size(), " bytes, at most ", kMaxNameBytes, " are allowed");
    }
    const TokenDigest digest = DigestOf(token);
    const auto [previous, is_new] = lines.emplace(digest, number);
    if (!is_new) return error("the same token as in line ", previous->second);
    entries.push_back({name, digest});
    if (entries.size() > kMaxTokens) return error("more than ", kMaxTokens, " tokens");
  }
  if (entries.empty()) return absl::InvalidArgumentError("there is no token in it");
  return entries;
}

}  // namespace adamoe
