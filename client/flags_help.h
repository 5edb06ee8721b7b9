// --help for programs with Abseil flags. Abseil's own exits with 1 and names source paths.
#ifndef ADAMOE_CLIENT_FLAGS_HELP_H_
#define ADAMOE_CLIENT_FLAGS_HELP_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace adamoe {

// Whether `arguments` (a program's argv) ask for --help, before any "--".
bool AsksForHelp(const std::vector<std::string>& arguments);

// Writes `usage`, then every flag defined in a file whose path contains one of `places`, by name:
// what it does and its default.
void PrintHelp(absl::string_view usage, const std::vector<std::string>& places, std::ostream& out);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_FLAGS_HELP_H_
