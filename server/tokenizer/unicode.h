// UTF-8 and the character classes that tokenizer.json files speak of. Pure functions, thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_UNICODE_H_
#define ADAMOE_SERVER_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace adamoe {

// U+FFFD as UTF-8.
inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// What stands at the front of a byte string.
struct Utf8Front {
  enum Kind { kCharacter, kIllFormed, kTruncated };
  Kind kind;
  // Bytes of the character; of the maximal ill-formed part (at least 1); or all bytes, where more
  // could complete them.
  size_t num_bytes;
  uint32_t code_point;  // of a kCharacter
};

// REQUIRES: !text.empty().
Utf8Front ReadUtf8(absl::string_view text);

// The offset of the first byte that is not well-formed UTF-8, or npos.
size_t FindIllFormedUtf8(absl::string_view text);

// Bytes of the character that starts with `lead`, in well-formed UTF-8.
inline size_t Utf8Length(char lead) {
  const uint8_t byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The last character of well-formed `text`. REQUIRES: !text.empty().
absl::string_view LastCharacter(absl::string_view text);

void AppendUtf8(uint32_t code_point, std::string* out);

bool IsWhitespace(uint32_t code_point);   // the property White_Space
bool IsNumber(uint32_t code_point);       // Nd, Nl, No
bool IsPunctuation(uint32_t code_point);  // P*, and ASCII's signs
// \w of regular expressions: letters, marks, decimal digits, connectors.
bool IsWordCharacter(uint32_t code_point);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_UNICODE_H_
