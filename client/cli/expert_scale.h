// A scale of terminal colours from few experts to many.
#ifndef ADAMOE_CLIENT_CLI_EXPERT_SCALE_H_
#define ADAMOE_CLIENT_CLI_EXPERT_SCALE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace adamoe {

// Whether to write colours. `mode` is "auto", "always" or "never"; auto: only to a terminal, and
// not where the environment variable NO_COLOR is set to something or TERM is "dumb" (null: not
// set).
bool UseColor(absl::string_view mode, bool is_terminal, const char* no_color, const char* term);

class ExpertScale {
 public:
  // From 0 to `max_experts` true experts per token and layer; values beyond either end take that
  // end's colour.
  explicit ExpertScale(double max_experts) : max_experts_(max_experts) {}

  // A colour of the 256-colour palette.
  int ColorOf(double experts) const;
  // `text` in that colour.
  std::string Paint(absl::string_view text, double experts) const;
  // One line that explains the colours, without its newline.
  std::string Legend() const;

 private:
  const double max_experts_;
};

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_EXPERT_SCALE_H_
