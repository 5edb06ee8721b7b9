// The commands of adamoe_client.
#ifndef ADAMOE_CLIENT_CLI_COMMANDS_H_
#define ADAMOE_CLIENT_CLI_COMMANDS_H_

#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "adamoe/v1/inference.grpc.pb.h"
#include "client/cli/generation.h"

namespace adamoe {

struct Session {
  v1::Inference::Stub* stub;  // outlives the session
  std::istream& in;
  std::ostream& out;
  bool in_is_terminal;
  absl::Duration timeout;  // of each call
  OutputOptions output;
};

// What --help says of the commands.
extern const char kCommandsHelp[];

// Runs `arguments`: a command's name and what follows it. INVALID_ARGUMENT for arguments that make
// no sense, else the call's error.
absl::Status RunCommand(const std::vector<std::string>& arguments, const Session& session);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_COMMANDS_H_
