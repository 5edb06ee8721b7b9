// SIGTERM and SIGINT. While the server loads they end it at once. Then they are something to wait
// for: the first asks the server to drain, a second ends the process at once.
#ifndef ADAMOE_SERVER_SHUTDOWN_SIGNAL_H_
#define ADAMOE_SERVER_SHUTDOWN_SIGNAL_H_

#include "absl/status/status.h"

namespace adamoe {

// From now on the signals end the process with status 128 + their number, also as process 1 of a
// container, which the kernel spares what a signal does by default. Fails when the system refuses.
absl::Status EndOnShutdownSignals();

// Catches the signals from now on. Call once. Fails when the system refuses.
absl::Status CatchShutdownSignals();

// Waits for the first signal and returns its number. REQUIRES: CatchShutdownSignals was ok; called
// once.
int AwaitShutdownSignal();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SHUTDOWN_SIGNAL_H_
