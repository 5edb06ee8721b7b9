// Where grammar processes come from: a small process forked off before the server has threads,
// which knows the vocabulary and forks one more for each grammar. (A process with threads cannot
// fork safely, and a fork of one that holds a model takes long.)
#ifndef ADAMOE_SERVER_STRUCTURED_FORK_SERVER_H_
#define ADAMOE_SERVER_STRUCTURED_FORK_SERVER_H_

#include <sys/types.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/structured/grammar_wire.h"
#include "server/structured/vocabulary.h"

namespace adamoe {

// Thread-safe, but for SetVocabulary.
class ForkServer {
 public:
  // REQUIRES: this process has one thread.
  static absl::StatusOr<std::unique_ptr<ForkServer>> Start();
  // Ends the process; grammar processes end when their own sockets are closed.
  ~ForkServer();
  ForkServer(const ForkServer&) = delete;
  ForkServer& operator=(const ForkServer&) = delete;

  // Once, before the first Fork.
  absl::Status SetVocabulary(const Vocabulary& vocabulary);

  // Starts a grammar process at the other end of `socket`. INTERNAL when the fork server is gone.
  absl::Status Fork(const Fd& socket, const SharedMemory& memory);

  pid_t pid() const { return pid_; }

 private:
  ForkServer(Fd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}

  Fd socket_;
  const pid_t pid_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_FORK_SERVER_H_
