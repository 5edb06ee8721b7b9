#include "client/cli/token_painter.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the first character of valid UTF-8.
size_t FirstCharacter(absl::string_view text) {
  size_t size = 1;
  while (size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) ++size;
  return size;
}

// Bytes of the whole characters that both begin with.
size_t CommonPrefix(absl::string_view a, absl::string_view b) {
  size_t size = 0;
  while (!a.empty() && !b.empty()) {
    const size_t character = FirstCharacter(b);
    if (a.substr(0, character) != b.substr(0, character)) break;
    a.remove_prefix(character);
    b.remove_prefix(character);
    size += character;
  }
  return size;
}

}  // namespace

size_t TokenPainter::NextPiece(absl::string_view text) {
  while (!pending_.empty() && pending_.front().text.empty()) pending_.pop_front();
  if (pending_.empty()) return text.size();
  Pending& token = pending_.front();
  experts_ = token.experts;
  // The first text of a stream may lack the token's leading space.
  if (token.text.size() > 1 && token.text[0] == ' ' && text[0] != ' ') token.text.erase(0, 1);
  const size_t common = CommonPrefix(token.text, text);
  if (common > 0) {
    token.text.erase(0, common);
    return common;
  }
  if (absl::StartsWith(token.text, kReplacement)) {
    TakeBytes(FirstCharacter(text));
  } else if (absl::StartsWith(text, kReplacement)) {
    // A token of one byte shows as U+FFFD where the bytes around it make no character.
    if (token.text.size() == 1) pending_.pop_front();
  } else {
    SkipTokensBefore(text);
  }
  return FirstCharacter(text);
}

void TokenPainter::TakeBytes(size_t count) {
  for (; count > 0 && !pending_.empty() && absl::StartsWith(pending_.front().text, kReplacement);
       --count) {
    experts_ = pending_.front().experts;
    pending_.pop_front();
  }
}

void TokenPainter::SkipTokensBefore(absl::string_view text) {
  const auto next = std::find_if(pending_.begin(), pending_.end(), [text](const Pending& token) {
    return CommonPrefix(token.text, text) > 0;
  });
  if (next == pending_.end()) return;
  pending_.erase(pending_.begin(), next);
  experts_ = pending_.front().experts;
  pending_.front().text.erase(0, FirstCharacter(text));
}

std::string TokenPainter::Paint(const v1::GenerateResponse& message) {
  for (const v1::Token& token : message.tokens()) {
    pending_.push_back({token.text(), static_cast<double>(token.experts()) / num_layers_});
  }
  std::string painted;
  absl::string_view rest = message.text();
  while (!rest.empty()) {
    const size_t size = NextPiece(rest);
    absl::StrAppend(&painted, mark_(rest.substr(0, size), experts_));
    rest.remove_prefix(size);
  }
  return painted;
}

}  // namespace adamoe
