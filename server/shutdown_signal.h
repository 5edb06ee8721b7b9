// SIGTERM and SIGINT as something to wait for: the first asks the server to drain, a second ends
// the process at once.
#ifndef ADAMOE_SERVER_SHUTDOWN_SIGNAL_H_
#define ADAMOE_SERVER_SHUTDOWN_SIGNAL_H_

#include "absl/status/status.h"

namespace adamoe {

// Catches the signals from now on; until then they end the process. Call once. Fails
// when the system refuses.
absl::Status CatchShutdownSignals();

// Waits for the first signal and returns its number. REQUIRES: CatchShutdownSignals was ok; called
// once.
int AwaitShutdownSignal();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SHUTDOWN_SIGNAL_H_
