#include "server/security/authenticator.h"

#include <openssl/crypto.h>

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/security/small_file.h"

namespace adamoe {

absl::StatusOr<Caller::Place> Caller::Enter(std::shared_ptr<const Caller> caller) {
  const int limit = caller->max_requests_;
  if (caller->num_requests_.fetch_add(1) >= limit && limit > 0) {
    --caller->num_requests_;
    return absl::ResourceExhaustedError(
        absl::StrCat("this token has ", limit, " requests that wait or run, which is its limit"));
  }
  return Place(caller.get(), [caller](const void*) { --caller->num_requests_; });
}

absl::StatusOr<std::unique_ptr<Authenticator>> Authenticator::Open(std::string token_file,
                                                                   int max_requests_per_token) {
  std::unique_ptr<Authenticator> authenticator(
      new Authenticator(std::move(token_file), max_requests_per_token));
  RETURN_IF_ERROR(authenticator->Reload().status());
  return authenticator;
}

std::shared_ptr<const Authenticator::Tokens> Authenticator::tokens() const {
  absl::MutexLock lock(&mu_);
  return tokens_;
}

size_t Authenticator::num_tokens() const { return tokens()->size(); }

absl::StatusOr<std::shared_ptr<const Caller>> Authenticator::Authenticate(
    const std::vector<std::string>& authorization) const {
  constexpr absl::string_view kScheme = "bearer ";
  if (authorization.empty()) {
    return absl::UnauthenticatedError("a token is needed, as 'authorization: Bearer TOKEN'");
  }
  const absl::string_view value = authorization.front();
  const absl::string_view token =
      absl::StripAsciiWhitespace(value.substr(std::min(value.size(), kScheme.size())));
  const TokenDigest digest = DigestOf(token);
  std::shared_ptr<const Caller> found;
  const auto known = tokens();
  for (const auto& [known_digest, caller] : *known) {
    if (CRYPTO_memcmp(known_digest.data(), digest.data(), digest.size()) == 0) found = caller;
  }
  const bool is_bearer = authorization.size() == 1 && absl::StartsWithIgnoreCase(value, kScheme);
  if (found == nullptr || !is_bearer) {
    return absl::UnauthenticatedError("the token is not valid");
  }
  return found;
}

absl::StatusOr<bool> Authenticator::Reload() {
  ASSIGN_OR_RETURN(const std::string content, ReadSmallFile(token_file_));
  auto entries = ParseTokenFile(content);
  if (!entries.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(token_file_, ": ", entries.status().message()));
  }
  const auto before = tokens();
  std::map<TokenDigest, std::shared_ptr<const Caller>> callers(before->begin(), before->end());
  auto after = std::make_shared<Tokens>();
  for (TokenEntry& entry : *entries) {
    std::shared_ptr<const Caller>& caller = callers[entry.digest];
    if (caller == nullptr || caller->name() != entry.name) {
      caller = std::make_shared<Caller>(std::move(entry.name), max_requests_per_token_);
    }
    after->emplace_back(entry.digest, caller);
  }
  if (*after == *before) return false;
  absl::MutexLock lock(&mu_);
  tokens_ = std::move(after);
  return true;
}

absl::StatusOr<std::shared_ptr<const Caller>> Authenticate(
    const Authenticator* authenticator, const std::vector<std::string>& authorization) {
  if (authenticator == nullptr) return nullptr;
  return authenticator->Authenticate(authorization);
}

}  // namespace adamoe
