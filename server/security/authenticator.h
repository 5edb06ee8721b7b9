// Who calls: bearer tokens, and how many requests each may have at a time. Thread-safe.
//
//   ASSIGN_OR_RETURN(auto caller, authenticator->Authenticate(values_of_authorization));
//   ASSIGN_OR_RETURN(Caller::Place place, Caller::Enter(caller));  // until `place` goes
#ifndef ADAMOE_SERVER_SECURITY_AUTHENTICATOR_H_
#define ADAMOE_SERVER_SECURITY_AUTHENTICATOR_H_

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/security/token_file.h"

namespace adamoe {

// One token's holder. A token that stays in the file stays the same Caller when the file is read
// again.
class Caller {
 public:
  // `max_requests` 0: no limit.
  Caller(std::string name, int max_requests)
      : name_(std::move(name)), max_requests_(max_requests) {}

  const std::string& name() const { return name_; }

  // A request's place among its caller's; given back when the last copy goes.
  using Place = std::shared_ptr<const void>;

  // RESOURCE_EXHAUSTED when `caller` has max_requests already.
  static absl::StatusOr<Place> Enter(std::shared_ptr<const Caller> caller);

 private:
  const std::string name_;
  const int max_requests_;
  mutable std::atomic<int> num_requests_{0};
};

class Authenticator {
 public:
  // Errors as Reload's.
  static absl::StatusOr<std::unique_ptr<Authenticator>> Open(std::string token_file,
                                                             int max_requests_per_token);

  // `authorization` holds every value of a call's header of that name. UNAUTHENTICATED when there
  // is none, or not exactly one that is "Bearer TOKEN" with a token of the file. A comparison takes
  // as long whatever it finds.
  absl::StatusOr<std::shared_ptr<const Caller>> Authenticate(
      const std::vector<std::string>& authorization) const ABSL_LOCKS_EXCLUDED(mu_);

  // Reads the file again. True: the tokens in it are others than before, and hold from now on.
  // Errors name the file and the line, and leave the tokens as they were.
  absl::StatusOr<bool> Reload() ABSL_LOCKS_EXCLUDED(mu_);

  size_t num_tokens() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Tokens = std::vector<std::pair<TokenDigest, std::shared_ptr<const Caller>>>;

  Authenticator(std::string token_file, int max_requests_per_token)
      : token_file_(std::move(token_file)), max_requests_per_token_(max_requests_per_token) {}

  std::shared_ptr<const Tokens> tokens() const ABSL_LOCKS_EXCLUDED(mu_);

  const std::string token_file_;
  const int max_requests_per_token_;

  mutable absl::Mutex mu_;
  std::shared_ptr<const Tokens> tokens_ ABSL_GUARDED_BY(mu_) = std::make_shared<Tokens>();
};

// The same where tokens may not be wanted at all: with a null `authenticator` everybody may call,
// and the caller is null.
absl::StatusOr<std::shared_ptr<const Caller>> Authenticate(
    const Authenticator* authenticator, const std::vector<std::string>& authorization);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SECURITY_AUTHENTICATOR_H_
