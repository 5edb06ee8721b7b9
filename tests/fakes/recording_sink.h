// Keeps what a request gets, and checks the order of calls that token_sink.h promises. Thread-safe.
#ifndef ADAMOE_TESTS_FAKES_RECORDING_SINK_H_
#define ADAMOE_TESTS_FAKES_RECORDING_SINK_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/request/token_sink.h"

namespace adamoe {

class RecordingSink : public TokenSink {
 public:
  void OnPromptTokens(std::vector<TokenInfo> tokens) override {
    absl::MutexLock lock(&mu_);
    in_order_ &= !prompt_ && tokens_.empty() && !outcome_;
    prompt_ = std::move(tokens);
  }

  Next OnToken(TokenInfo token) override {
    absl::MutexLock lock(&mu_);
    in_order_ &= !outcome_;
    tokens_.push_back(std::move(token));
    return tokens_.size() == stop_after_ ? Next::kStop : Next::kContinue;
  }

  void OnFinish(const Outcome& outcome) override {
    absl::MutexLock lock(&mu_);
    in_order_ &= !outcome_;
    outcome_ = outcome;
  }

  // kStop is returned for the `count`-th token. 0: never. Before the request is submitted.
  void StopAfter(size_t count) {
    absl::MutexLock lock(&mu_);
    stop_after_ = count;
  }

  // False when 30 s were not enough.
  bool AwaitFinish() const {
    absl::MutexLock lock(&mu_);
    const auto finished = [this]()
                              ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return outcome_.has_value(); };
    return mu_.AwaitWithTimeout(absl::Condition(&finished), absl::Seconds(30));
  }

  bool finished() const {
    absl::MutexLock lock(&mu_);
    return outcome_.has_value();
  }

  // REQUIRES: finished().
  Outcome outcome() const {
    absl::MutexLock lock(&mu_);
    return *outcome_;
  }

  bool in_order() const {
    absl::MutexLock lock(&mu_);
    return in_order_;
  }

  std::vector<TokenInfo> tokens() const {
    absl::MutexLock lock(&mu_);
    return tokens_;
  }

  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (const TokenInfo& token : tokens()) ids.push_back(token.id);
    return ids;
  }

  std::optional<std::vector<TokenInfo>> prompt() const {
    absl::MutexLock lock(&mu_);
    return prompt_;
  }

 private:
  mutable absl::Mutex mu_;
  size_t stop_after_ ABSL_GUARDED_BY(mu_) = 0;
  bool in_order_ ABSL_GUARDED_BY(mu_) = true;
  std::optional<std::vector<TokenInfo>> prompt_ ABSL_GUARDED_BY(mu_);
  std::vector<TokenInfo> tokens_ ABSL_GUARDED_BY(mu_);
  std::optional<Outcome> outcome_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_RECORDING_SINK_H_
