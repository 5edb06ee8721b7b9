// The added tokens of a tokenizer.json: strings that are cut out of a text before anything else,
// each one token. Special ones (control tokens) are cut out only where the caller says that the
// text may hold them. Immutable; thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_ADDED_TOKENS_H_
#define ADAMOE_SERVER_TOKENIZER_ADDED_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tokenizer/json_field.h"
#include "server/tokenizer/normalizer.h"

namespace adamoe {

struct AddedToken {
  int32_t id;
  std::string content;
  bool special;
  bool single_word;  // not within a word
  bool lstrip;       // takes the whitespace before it
  bool rstrip;       // takes the whitespace after it
  bool normalized;   // looked for in the normalized text
};

// A stretch of a text, in bytes, that is the token `id`, or ordinary text where id is -1.
struct TokenSpan {
  size_t begin;
  size_t end;
  int32_t id;
};

class AddedTokens {
 public:
  // A null field is the empty list.
  static absl::StatusOr<AddedTokens> Parse(const JsonField& field, const Normalizer& normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }

  // Finds tokens, leftmost first and longest among those that start together: the ones to be looked
  // for before normalization or, with `normalized`, after. The spans cover the text, but for
  // whitespace that two tokens both take.
  std::vector<TokenSpan> Split(absl::string_view text, bool normalized, bool find_special) const;

 private:
  // Strings as a tree of their bytes.
  struct Trie {
    void Insert(absl::string_view key, int32_t value);
    // The value of the longest string that `text` starts with and its length, or {-1, 0}.
    std::pair<int32_t, size_t> LongestPrefix(absl::string_view text) const;

    absl::flat_hash_map<uint64_t, int32_t> children;  // by node << 8 | byte
    std::vector<int32_t> values = {-1};               // by node; 0 is the root
  };

  std::vector<AddedToken> tokens_;
  Trie before_normalization_;  // values are indices of tokens_
  Trie after_normalization_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_ADDED_TOKENS_H_
