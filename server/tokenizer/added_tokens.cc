#include "server/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "server/base/status_macros.h"
#include "server/tokenizer/bpe_model.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

absl::StatusOr<AddedToken> ParseToken(const JsonField& field) {
  AddedToken token;
  ASSIGN_OR_RETURN(token.id, field["id"].Index(kMaxTokenId));
  ASSIGN_OR_RETURN(token.content, field["content"].String());
  ASSIGN_OR_RETURN(token.special, field["special"].Bool(false));
  ASSIGN_OR_RETURN(token.single_word, field["single_word"].Bool(false));
  ASSIGN_OR_RETURN(token.lstrip, field["lstrip"].Bool(false));
  ASSIGN_OR_RETURN(token.rstrip, field["rstrip"].Bool(false));
  ASSIGN_OR_RETURN(token.normalized, field["normalized"].Bool(!token.special));
  if (token.content.empty()) return field["content"].Error("is empty");
  return token;
}

bool StandsAlone(absl::string_view before, absl::string_view after) {
  const bool joins_left =
      !before.empty() && IsWordCharacter(ReadUtf8(LastCharacter(before)).code_point);
  const bool joins_right = !after.empty() && IsWordCharacter(ReadUtf8(after).code_point);
  return !joins_left && !joins_right;
}

size_t TrailingWhitespace(absl::string_view text) {
  size_t num_bytes = 0;
  while (num_bytes < text.size()) {
    const absl::string_view last = LastCharacter(text.substr(0, text.size() - num_bytes));
    if (!IsWhitespace(ReadUtf8(last).code_point)) break;
    num_bytes += last.size();
  }
  return num_bytes;
}

size_t LeadingWhitespace(absl::string_view text) {
  size_t num_bytes = 0;
  while (num_bytes < text.size()) {
    const Utf8Front front = ReadUtf8(text.substr(num_bytes));
    if (!IsWhitespace(front.code_point)) break;
    num_bytes += front.num_bytes;
  }
  return num_bytes;
}

}  // namespace

void AddedTokens::Trie::Insert(absl::string_view key, int32_t value) {
  uint64_t node = 0;
  for (const char c : key) {
    const auto next = static_cast<int32_t>(values.size());
    const auto [child, is_new] = children.emplace(node << 8 | static_cast<uint8_t>(c), next);
    if (is_new) values.push_back(-1);
    node = static_cast<uint64_t>(child->second);
  }
  if (values[node] < 0) values[node] = value;
}

std::pair<int32_t, size_t> AddedTokens::Trie::LongestPrefix(absl::string_view text) const {
  std::pair<int32_t, size_t> longest = {-1, 0};
  uint64_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto child = children.find(node << 8 | static_cast<uint8_t>(text[i]));
    if (child == children.end()) break;
    node = static_cast<uint64_t>(child->second);
    if (values[node] >= 0) longest = {values[node], i + 1};
  }
  return longest;
}

absl::StatusOr<AddedTokens> AddedTokens::Parse(const JsonField& field,
                                               const Normalizer& normalizer) {
  AddedTokens added;
  if (field.IsNull()) return added;
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, field.Array());
  for (const JsonField& element : elements) {
    ASSIGN_OR_RETURN(AddedToken token, ParseToken(element));
    const auto index = static_cast<int32_t>(added.tokens_.size());
    if (token.normalized) {
      ASSIGN_OR_RETURN(const std::string content, normalizer.Apply(token.content));
      if (!content.empty()) added.after_normalization_.Insert(content, index);
    } else {
      added.before_normalization_.Insert(token.content, index);
    }
    added.tokens_.push_back(std::move(token));
  }
  return added;
}

std::vector<TokenSpan> AddedTokens::Split(absl::string_view text, bool normalized,
                                          bool find_special) const {
  const Trie& trie = normalized ? after_normalization_ : before_normalization_;
  std::vector<TokenSpan> spans;
  size_t done = 0;
  const auto add_text = [&](size_t end) {
    if (done < end) spans.push_back({done, end, -1});
  };
  for (size_t at = 0; at < text.size();) {
    const auto [index, length] = trie.LongestPrefix(text.substr(at));
    if (index < 0) {
      at += Utf8Length(text[at]);
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = at;
    at += length;
    if (token.special && !find_special) continue;
    if (token.single_word && !StandsAlone(text.substr(0, begin), text.substr(at))) continue;
    if (token.lstrip) begin = std::max(begin - TrailingWhitespace(text.substr(0, begin)), done);
    const size_t end = token.rstrip ? at + LeadingWhitespace(text.substr(at)) : at;
    add_text(begin);
    spans.push_back({begin, end, token.id});
    done = end;
  }
  add_text(text.size());
  return spans;
}

}  // namespace adamoe
