// adamoe_train: dispatches to the subcommands in commands/.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "train/caching_allocator.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"

namespace adamoe {
namespace {

struct Command {
  const char* name;
  absl::Status (*run)();
  const char* example;
};

constexpr Command kCommands[] = {
    {"tokenizer", &RunTokenizer, "--text=FILES --out=DIR"},
    {"pretrain", &RunPretrain, "--text=FILES --tokenizer=DIR --out=DIR --max_seconds=S"},
    {"molora", &RunMoLora,
     "--model=DIR --out=DIR (--text=FILES | --choices=FILES) --max_steps=N --num_null_experts=M"},
    {"convert", &RunConvert, "--model=DIR --out=DIR --num_null_experts=M --experts_per_token=K"},
    {"finetune", &RunFinetune,
     "--model=DIR --out=DIR (--text=FILES | --choices=FILES) --max_steps=N [--lora_r=8]"},
    {"evaluate", &RunEvaluate,
     "--model=DIR (--text=FILE | --choices=FILE) [--target=HOST:PORT] [--json=FILE]"},
};

std::string Usage() {
  std::string usage = "Trains and measures AdaMoE models.";
  for (const Command& command : kCommands) {
    absl::StrAppend(&usage, "\n  adamoe_train ", command.name, " ", command.example);
  }
  return usage;
}

absl::Status Run(const std::vector<char*>& arguments) {
  std::string names;
  for (const Command& command : kCommands) {
    if (arguments.size() == 2 && arguments[1] == std::string(command.name)) return command.run();
    absl::StrAppend(&names, names.empty() ? "" : ", ", command.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expected one command of ", names, " (--help explains)"));
}

void RequestStop(int) { stop_requested = true; }

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  // Rows per expert differ from step to step: room for a kernel of every shape that occurs.
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32768", /*overwrite=*/0);
  adamoe::InstallCachingAllocator();
  absl::FlagsUsageConfig usage;
  usage.contains_help_flags = [](absl::string_view file) {
    return absl::StrContains(file, "train/commands/");
  };
  // Flags are listed by the file that defines them, which is the command they belong to.
  usage.normalize_filename = [](absl::string_view file) {
    const size_t begin = file.rfind("train/commands/");
    return std::string(begin == absl::string_view::npos ? file : file.substr(begin));
  };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(adamoe::Usage());
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  std::signal(SIGTERM, adamoe::RequestStop);
  std::signal(SIGINT, adamoe::RequestStop);
  const absl::Status status = adamoe::Run(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "adamoe_train: %s\n", std::string(status.message()).c_str());
  return 1;
}
