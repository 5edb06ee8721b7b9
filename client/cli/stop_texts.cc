#include "client/cli/stop_texts.h"

#include <cstddef>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace adamoe {
namespace {

// What \c stands for.
std::optional<char> Unescape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case ',':
      return ',';
    case '\\':
      return '\\';
    default:
      return std::nullopt;
  }
}

}  // namespace

bool AbslParseFlag(absl::string_view text, StopTexts* stop, std::string* error) {
  stop->texts.clear();
  if (text.empty()) return true;
  stop->texts.emplace_back();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') {
      stop->texts.emplace_back();
    } else if (text[i] != '\\') {
      stop->texts.back() += text[i];
    } else {
      const std::optional<char> c = i + 1 < text.size() ? Unescape(text[i + 1]) : std::nullopt;
      if (!c.has_value()) {
        *error = "a backslash must be followed by n, t, a comma or a backslash";
        return false;
      }
      stop->texts.back() += *c;
      ++i;
    }
  }
  return true;
}

std::string AbslUnparseFlag(const StopTexts& stop) {
  return absl::StrJoin(stop.texts, ",", [](std::string* out, const std::string& text) {
    absl::StrAppend(out, absl::StrReplaceAll(
                             text, {{"\\", "\\\\"}, {",", "\\,"}, {"\n", "\\n"}, {"\t", "\\t"}}));
  });
}

std::vector<std::string> JoinRepeatedFlag(const std::vector<std::string>& arguments,
                                          absl::string_view flag) {
  std::vector<std::string> joined;
  std::optional<size_t> first;  // where the joined flag stands
  bool flags_ended = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view rest = arguments[i];
    flags_ended = flags_ended || rest == "--";
    const bool is_flag = !flags_ended && absl::ConsumePrefix(&rest, "-") &&
                         (absl::ConsumePrefix(&rest, "-") || true) &&
                         absl::ConsumePrefix(&rest, flag);
    const bool has_value = is_flag && absl::ConsumePrefix(&rest, "=");
    const bool value_follows = is_flag && !has_value && rest.empty() && i + 1 < arguments.size();
    if (!has_value && !value_follows) {
      joined.push_back(arguments[i]);
      continue;
    }
    const std::string value = has_value ? std::string(rest) : arguments[++i];
    if (first.has_value()) {
      absl::StrAppend(&joined[*first], ",", value);
    } else {
      first = joined.size();
      joined.push_back(absl::StrCat("--", flag, "=", value));
    }
  }
  return joined;
}

}  // namespace adamoe
