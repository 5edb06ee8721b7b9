// The normalizer of a tokenizer.json: what is done to a text before it is cut into words.
// Understands Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD and Lowercase. Immutable;
// thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_NORMALIZER_H_
#define ADAMOE_SERVER_TOKENIZER_NORMALIZER_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/tokenizer/json_field.h"
#include "server/tokenizer/regex.h"

namespace adamoe {

// Rules upon rules could make any text grow beyond all memory.
inline constexpr size_t kMaxTextBytes = size_t{1} << 26;

class Normalizer {
 public:
  // A null field is the normalizer that changes nothing. INVALID_ARGUMENT names what is not
  // understood.
  static absl::StatusOr<Normalizer> Parse(const JsonField& field);

  // `text` is well-formed UTF-8, as is the result. RESOURCE_EXHAUSTED beyond kMaxTextBytes.
  absl::StatusOr<std::string> Apply(std::string text) const;

 private:
  using Step = std::function<absl::Status(std::string* text)>;

  absl::Status AddSteps(const JsonField& field);
  absl::Status AddReplace(const JsonField& field);

  std::vector<Step> steps_;
};

// {"String": "..."} or {"Regex": "..."}, as Replace and Split have it.
absl::StatusOr<Regex> ParsePattern(const JsonField& field);

// `text` with every match of `pattern` replaced by `content`. RESOURCE_EXHAUSTED beyond
// kMaxTextBytes.
absl::StatusOr<std::string> ReplaceAll(const Regex& pattern, const std::string& content,
                                       absl::string_view text);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_NORMALIZER_H_
