// adamoe_client: asks an AdaMoE inference server from the command line.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "client/cli/commands.h"
#include "client/cli/expert_scale.h"
#include "client/cli/stop_texts.h"
#include "client/connection.h"
#include "client/flags_help.h"
#include "client/rpc.h"

ABSL_FLAG(absl::Duration, timeout, absl::InfiniteDuration(),
          "How long a call may take, as in 500ms, 30s or 2m. Default: for ever");
ABSL_FLAG(bool, json, false, "Prints one JSON object per message of the server, and nothing else");
ABSL_FLAG(bool, show_experts, false,
          "Marks each token with the experts it used, the mean over layers: by colour, or by a "
          "number in brackets where "
          "there are no colours");
ABSL_FLAG(
    std::string, color, "auto",
    "always, never or auto: colours when standard output is a terminal and NO_COLOR is not set");

namespace {

// The command and its arguments.
std::vector<std::string> ParseArguments(const std::vector<std::string>& argv) {
  std::vector<std::string> joined = adamoe::JoinRepeatedFlag(argv, "stop");
  std::vector<char*> pointers;
  for (std::string& argument : joined) pointers.push_back(argument.data());
  const std::vector<char*> rest =
      absl::ParseCommandLine(static_cast<int>(pointers.size()), pointers.data());
  return {rest.begin() + 1, rest.end()};
}

absl::Status Run(const std::vector<std::string>& arguments) {
  const std::string color = absl::GetFlag(FLAGS_color);
  if (color != "auto" && color != "always" && color != "never") {
    return absl::InvalidArgumentError("--color is '" + color + "': auto, always or never");
  }
  if (absl::GetFlag(FLAGS_timeout) <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("--timeout must be more than 0");
  }
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  adamoe::OutputOptions output;
  output.json = absl::GetFlag(FLAGS_json);
  output.show_experts = absl::GetFlag(FLAGS_show_experts);
  output.color = adamoe::UseColor(color, terminal, std::getenv("NO_COLOR"), std::getenv("TERM"));
  output.is_terminal = terminal;
  const auto channel = adamoe::ConnectByFlags();
  if (!channel.ok()) return channel.status();
  const auto stub = adamoe::v1::Inference::NewStub(*channel);
  return adamoe::RunCommand(arguments, {stub.get(), std::cin, std::cout, isatty(STDIN_FILENO) == 1,
                                        absl::GetFlag(FLAGS_timeout), output});
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> all(argv, argv + argc);
  if (adamoe::AsksForHelp(all)) {
    adamoe::PrintHelp(adamoe::kCommandsHelp, {"client/cli/", "client/connection"}, std::cout);
    return 0;
  }
  const absl::Status status = Run(ParseArguments(all));
  if (status.ok()) return 0;
  std::cerr << "adamoe_client: " << adamoe::StatusLine(status) << std::endl;
  return 1;
}
