#include "client/flags_help.h"

#include <algorithm>
#include <map>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace adamoe {
namespace {

constexpr size_t kWidth = 96;

// `text` broken into lines at spaces, each indented.
void PrintWrapped(absl::string_view text, std::ostream& out) {
  std::string line;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!line.empty() && line.size() + 1 + word.size() > kWidth) {
      out << "      " << line << '\n';
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line.append(word.data(), word.size());
  }
  if (!line.empty()) out << "      " << line << '\n';
}

}  // namespace

bool AsksForHelp(const std::vector<std::string>& arguments) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  return std::any_of(arguments.begin(), end, [](const std::string& argument) {
    return argument == "--help" || argument == "-help" || argument == "-h";
  });
}

void PrintHelp(absl::string_view usage, const std::vector<std::string>& places, std::ostream& out) {
  out << usage << "\n\nFlags:\n";
  std::map<std::string, const absl::CommandLineFlag*> flags;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    const std::string file = flag->Filename();
    const bool listed = std::any_of(places.begin(), places.end(), [&file](const auto& place) {
      return absl::StrContains(file, place);
    });
    if (listed) flags[std::string(name)] = flag;
  }
  for (const auto& [name, flag] : flags) {
    // A flag whose default is to be unset says in its own words what happens then.
    const std::string value = flag->DefaultValue();
    out << "  --" << name << (value.empty() ? "" : "=" + value) << '\n';
    PrintWrapped(flag->Help(), out);
  }
}

}  // namespace adamoe
