// Stop texts on a command line: --stop may be given several times, and each time may list several.
#ifndef ADAMOE_CLIENT_CLI_STOP_TEXTS_H_
#define ADAMOE_CLIENT_CLI_STOP_TEXTS_H_

#include <string>
#include <vector>

#include "absl/flags/marshalling.h"
#include "absl/strings/string_view.h"

namespace adamoe {

// The value of --stop, as an Abseil flag: texts divided by commas, in which \n, \t, \, and \\ stand
// for a newline, a tab, a comma and a backslash.
struct StopTexts {
  std::vector<std::string> texts;
};

bool AbslParseFlag(absl::string_view text, StopTexts* stop, std::string* error);
std::string AbslUnparseFlag(const StopTexts& stop);

// Abseil keeps the last value of a flag given twice. This joins the values of every --`flag` in
// `arguments` (a program's argv) with commas into one, where the first stood. Arguments after "--"
// are left alone.
std::vector<std::string> JoinRepeatedFlag(const std::vector<std::string>& arguments,
                                          absl::string_view flag);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_STOP_TEXTS_H_
