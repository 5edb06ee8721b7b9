#include "server/serving/utf8.h"

#include <utf8proc.h>

#include <cstdint>

namespace adamoe {
namespace {

// Bytes of the character at the start of `text`, and the character; 0 when ill-formed.
size_t ReadCharacter(absl::string_view text, utf8proc_int32_t* character) {
  const auto size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), character);
  return size > 0 ? static_cast<size_t>(size) : 0;
}

bool IsSpace(utf8proc_int32_t character) {
  if (character <= 0x20) {
    return character == ' ' || (character >= '\t' && character <= '\r') ||
           (character >= 0x1c && character <= 0x1f);
  }
  if (character == 0x85) return true;
  const auto category = utf8proc_category(character);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

}  // namespace

size_t FirstInvalidUtf8(absl::string_view text) {
  utf8proc_int32_t character;
  size_t offset = 0;
  while (offset < text.size()) {
    const size_t size = ReadCharacter(text.substr(offset), &character);
    if (size == 0) return offset;
    offset += size;
  }
  return text.size();
}

std::string MendUtf8(absl::string_view bytes) {
  std::string mended;
  while (!bytes.empty()) {
    const size_t valid = FirstInvalidUtf8(bytes);
    mended.append(bytes.data(), valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    mended += "\xef\xbf\xbd";
    bytes.remove_prefix(1);
  }
  return mended;
}

size_t TrailingSpaceBytes(absl::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (text[begin] & 0xc0) == 0x80) --begin;
    utf8proc_int32_t character;
    if (ReadCharacter(text.substr(begin, end - begin), &character) == 0 || !IsSpace(character))
      break;
    end = begin;
  }
  return text.size() - end;
}

}  // namespace adamoe
