#include "client/cli/expert_scale.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adamoe {
namespace {

// Blue, through green and yellow, to red; all light enough for a dark terminal and dark enough for
// a white one.
constexpr int kColors[] = {27, 33, 38, 37, 36, 71, 106, 142, 178, 172, 208, 202, 196};
constexpr char kReset[] = "\x1b[0m";

std::string Colored(int color, absl::string_view text) {
  return absl::StrCat("\x1b[38;5;", color, "m", text, kReset);
}

}  // namespace

bool UseColor(absl::string_view mode, bool is_terminal, const char* no_color, const char* term) {
  if (mode != "auto") return mode == "always";
  const bool unwanted = no_color != nullptr && *no_color != '\0';
  const bool dumb = term != nullptr && absl::string_view(term) == "dumb";
  return is_terminal && !unwanted && !dumb;
}

int ExpertScale::ColorOf(double experts) const {
  const double share = max_experts_ > 0 ? std::clamp(experts / max_experts_, 0.0, 1.0) : 0.0;
  return kColors[std::lround(share * (std::size(kColors) - 1))];
}

std::string ExpertScale::Paint(absl::string_view text, double experts) const {
  return Colored(ColorOf(experts), text);
}

std::string ExpertScale::Legend() const {
  std::string legend = "experts per token and layer: 0 ";
  for (int color : kColors) absl::StrAppend(&legend, Colored(color, "█"));
  return absl::StrCat(legend, absl::StrFormat(" %g", max_experts_));
}

}  // namespace adamoe
