#include "server/shutdown_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace adamoe {
namespace {

std::atomic<int> num_signals{0};
int pipe_ends[2];  // read, write

// Only what a signal handler may do.
void OnSignal(int signal_number) {
  if (num_signals.fetch_add(1) > 0) _exit(128 + signal_number);
  const int saved = errno;
  const char byte = static_cast<char>(signal_number);
  [[maybe_unused]] const ssize_t written = write(pipe_ends[1], &byte, 1);
  errno = saved;
}

void EndAtOnce(int signal_number) { _exit(128 + signal_number); }

absl::Status Handle(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  if (sigaction(SIGTERM, &action, nullptr) != 0 || sigaction(SIGINT, &action, nullptr) != 0) {
    return absl::ErrnoToStatus(errno, "cannot catch SIGTERM and SIGINT");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status EndOnShutdownSignals() { return Handle(&EndAtOnce); }

absl::Status CatchShutdownSignals() {
  if (pipe(pipe_ends) != 0) return absl::ErrnoToStatus(errno, "no pipe for SIGTERM and SIGINT");
  return Handle(&OnSignal);
}

int AwaitShutdownSignal() {
  char byte = 0;
  while (read(pipe_ends[0], &byte, 1) != 1) {
  }
  return byte;
}

}  // namespace adamoe
