// Turns the form that a request wants into the matcher that keeps its output to it: what front ends
// call before they queue such a request.
//
//   request->structured = ...;
//   grammars->Prepare(*request->structured, request->sampling.stop_token_ids,
//                     [...](absl::StatusOr<std::unique_ptr<TokenMatcher>> matcher) {
//                       // on another thread perhaps: request->matcher = ...; queue->Submit(...)
//                     });
#ifndef ADAMOE_SERVER_STRUCTURED_GRAMMAR_SERVICE_H_
#define ADAMOE_SERVER_STRUCTURED_GRAMMAR_SERVICE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/request/grammar_observer.h"
#include "server/request/structured_output.h"
#include "server/request/token_matcher.h"
#include "server/structured/fork_server.h"
#include "server/structured/grammar.h"
#include "server/structured/grammar_cache.h"
#include "server/structured/vocabulary.h"

namespace adamoe {

// Thread-safe.
class GrammarService {
 public:
  struct Options {
    Grammar::Limits limits;
    size_t cache_bytes = size_t{256} << 20;
    size_t max_grammars = 128;  // compiled ones, each a process
    size_t max_waiting = 64;    // requests whose grammar is not compiled yet
    int num_compiling = 2;      // at the same time
  };
  using Done = std::function<void(absl::StatusOr<std::unique_ptr<TokenMatcher>>)>;

  // `observer` must outlive the service. Errors as of ForkServer::SetVocabulary.
  static absl::StatusOr<std::unique_ptr<GrammarService>> Start(
      const Options& options, std::unique_ptr<ForkServer> fork_server, const Vocabulary& vocabulary,
      GrammarObserver* observer);
  // Whoever still waits is answered with CANCELLED. Matchers may outlive the service.
  ~GrammarService();
  GrammarService(const GrammarService&) = delete;
  GrammarService& operator=(const GrammarService&) = delete;

  // Calls `done` exactly once: at once when the grammar is known, else from a thread of the
  // service; with a matcher, or INVALID_ARGUMENT, RESOURCE_EXHAUSTED, INTERNAL or CANCELLED as of
  // Grammar::Compile. When this returns RESOURCE_EXHAUSTED instead, too much is under way to take
  // more, and `done` is not called. REQUIRES: `structured` keeps the limits of
  // structured_output.h; stop tokens as of Grammar::NewMatcher.
  absl::Status Prepare(const StructuredOutput& structured, std::vector<int32_t> stop_token_ids,
                       Done done) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Waiter {
    std::vector<int32_t> stop_token_ids;
    Done done;
  };
  // A grammar to compile, and who waits for it.
  struct Job {
    GrammarText text;
    std::vector<Waiter> waiters;
  };

  GrammarService(const Options& options, std::unique_ptr<ForkServer> fork_server,
                 int32_t vocab_size, GrammarObserver* observer);

  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  void Compile(const std::string& key) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes the job of `key` out. Whoever comes after it finds what it led to.
  std::vector<Waiter> Finish(const std::string& key,
                             const absl::StatusOr<std::shared_ptr<Grammar>>& grammar)
      ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  const std::unique_ptr<ForkServer> fork_server_;
  const int32_t vocab_size_;
  GrammarObserver* const observer_;
  absl::Notification stop_;

  absl::Mutex mu_;
  GrammarCache cache_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, Job> jobs_ ABSL_GUARDED_BY(mu_);
  std::deque<std::string> to_compile_ ABSL_GUARDED_BY(mu_);  // keys of jobs not begun
  size_t num_waiting_ ABSL_GUARDED_BY(mu_) = 0;              // over all jobs
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::vector<std::thread> threads_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_GRAMMAR_SERVICE_H_
