#include "server/tokenizer/incremental_decoder.h"

namespace adamoe {

std::string IncrementalDecoder::Push(int32_t id) {
  std::string text;
  if (const std::string* token = tokenizer_.TextToken(id)) stream_.Push(*token, &text);
  return text;
}

std::string IncrementalDecoder::Flush() {
  std::string text;
  stream_.Finish(&text);
  return text;
}

}  // namespace adamoe
