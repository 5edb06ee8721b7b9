// A compiled grammar, from the server's side: it lives in a process of its own (grammar_process.h),
// which works out masks while the model runs. Thread-safe.
#ifndef ADAMOE_SERVER_STRUCTURED_GRAMMAR_H_
#define ADAMOE_SERVER_STRUCTURED_GRAMMAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/request/token_matcher.h"
#include "server/structured/fork_server.h"
#include "server/structured/grammar_text.h"
#include "server/structured/grammar_wire.h"

namespace adamoe {

class Grammar : public std::enable_shared_from_this<Grammar> {
 public:
  struct Limits {
    absl::Duration compile_timeout = absl::Seconds(5);
    size_t compile_bytes = size_t{512} << 20;  // memory of the process while it compiles and later
    // Of the processor's time, for any token while the grammar is tried out.
    absl::Duration token_limit = absl::Milliseconds(50);
  };

  // Matchers of one grammar at the same time.
  static constexpr size_t kMaxMatchers = 1024;

  // Starts a process, and waits until it has compiled `text` and tried it out; at most until
  // `stop`. INVALID_ARGUMENT says what is wrong with the text; RESOURCE_EXHAUSTED: it takes more
  // than the limits; INTERNAL: no process can be had; CANCELLED.
  static absl::StatusOr<std::shared_ptr<Grammar>> Compile(const GrammarText& text,
                                                          const Limits& limits, int32_t vocab_size,
                                                          const absl::Notification& stop,
                                                          ForkServer* fork_server);
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  // A matcher at the start of a text, which shares the ownership of the grammar. Does not wait for
  // its first mask. RESOURCE_EXHAUSTED when there are kMaxMatchers, INVALID_ARGUMENT for more than
  // MatcherCommand::kMaxStops stop tokens. REQUIRES: all of them are in the vocabulary.
  absl::StatusOr<std::unique_ptr<TokenMatcher>> NewMatcher(absl::Span<const int32_t> stop_token_ids)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Of the compiled grammar, in its process.
  size_t num_bytes() const { return num_bytes_; }

  // False once the process has ended: a token took too long, or it has crashed.
  bool alive() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Matcher;

  struct Slot {
    enum class State { kFree, kBusy, kAnswered };
    State state = State::kFree;
    MatcherReply::Result result = MatcherReply::Result::kRefused;  // where answered
    uint32_t ticket = 0;
  };

  Grammar(Fd socket, SharedMemory memory, size_t num_words, size_t num_bytes);

  // For Matcher, with its own slot.
  void Append(uint32_t slot, int32_t token) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<TokenMask> Await(uint32_t slot, absl::Duration patience) ABSL_LOCKS_EXCLUDED(mu_);
  void Close(uint32_t slot) ABSL_LOCKS_EXCLUDED(mu_);

  void Send(const MatcherCommand& command) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes answers until `slot` has its own or there is none.
  void TakeAnswers(uint32_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<TokenMask> Answer(uint32_t slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Fd socket_;
  const SharedMemory memory_;  // [kMaxMatchers, num_words_] masks
  const size_t num_words_;
  const size_t num_bytes_;

  mutable absl::Mutex mu_;
  bool alive_ ABSL_GUARDED_BY(mu_) = true;
  uint32_t next_ticket_ ABSL_GUARDED_BY(mu_) = 1;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mu_);  // as many as were needed at once
  std::vector<uint32_t> free_slots_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_GRAMMAR_H_
