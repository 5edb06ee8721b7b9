// Which listeners only this machine can reach. Thread-safe.
#ifndef ADAMOE_SERVER_SECURITY_LOOPBACK_H_
#define ADAMOE_SERVER_SECURITY_LOOPBACK_H_

#include <string>

#include "absl/status/statusor.h"

namespace adamoe {

// Whether every address that `host` stands for is a loopback one: 127.0.0.0/8, ::1, or the former
// written as an IPv6 address. `host` is an IPv4 address, an IPv6 address with or without brackets,
// or a name, which is looked up. UNAVAILABLE when a name stands for no address.
absl::StatusOr<bool> IsLoopback(const std::string& host);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SECURITY_LOOPBACK_H_
