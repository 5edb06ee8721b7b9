// A regular expression as tokenizer.json files write them: Oniguruma's Ruby syntax over UTF-8.
// Immutable after compilation; thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_REGEX_H_
#define ADAMOE_SERVER_TOKENIZER_REGEX_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct re_pattern_buffer;

namespace adamoe {

// A stretch of a text, in bytes, that a pattern matched, or that lies between two matches.
struct TextSpan {
  size_t begin;
  size_t end;
  bool is_match;
};

class Regex {
 public:
  // INVALID_ARGUMENT says what is wrong with `pattern`.
  static absl::StatusOr<Regex> Compile(const std::string& pattern);
  // Matches `text` itself. REQUIRES: !text.empty().
  static Regex Literal(std::string text);

  // Cuts `text` into matches, leftmost first, and what lies between them; together they cover it.
  // An empty match cuts what lies around it. RESOURCE_EXHAUSTED where a match would take
  // more steps or memory than any sound pattern needs.
  // REQUIRES: spans is empty; `text` is well-formed UTF-8.
  absl::Status Split(absl::string_view text, std::vector<TextSpan>* spans) const;

 private:
  Regex() = default;
  void SplitLiteral(absl::string_view text, std::vector<TextSpan>* spans) const;

  std::string literal_;
  std::shared_ptr<re_pattern_buffer> compiled_;  // null where literal_ is used
};

// Adds [begin, end) to spans unless it is empty.
void AddSpan(size_t begin, size_t end, bool is_match, std::vector<TextSpan>* spans);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_REGEX_H_
