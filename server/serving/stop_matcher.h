// Finds the first stop string in text that comes in pieces, and holds back what may be the start of
// one.
//
// The first is the one that ends first (of several that end together, the one that starts first),
// so the result does not depend on how the text was cut into pieces. Thread-compatible.
#ifndef ADAMOE_SERVER_SERVING_STOP_MATCHER_H_
#define ADAMOE_SERVER_SERVING_STOP_MATCHER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace adamoe {

class StopMatcher {
 public:
  struct Result {
    std::string text;  // what is known not to be part of a stop string
    // The stop string that has ended, of this matcher; `text` is what stood before it.
    const std::string* stop = nullptr;
  };

  // REQUIRES: no stop is empty; each is UTF-8.
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Takes the next piece, of whole characters; so is what it returns. Stop strings that end in this
  // piece count only if `may_stop`. REQUIRES: no earlier piece matched.
  Result Push(absl::string_view piece, bool may_stop);

  // What is held back, at the end of the text.
  std::string Flush();

 private:
  // Bytes at the end of held_ that start some stop string without completing it.
  size_t PossibleStart() const;

  const std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_STOP_MATCHER_H_
