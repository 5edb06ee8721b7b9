// Strings of special tokens, which have no text of their own. Pure functions.
#ifndef ADAMOE_SERVER_HTTP_SPECIAL_TOKENS_H_
#define ADAMOE_SERVER_HTTP_SPECIAL_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "server/tokenizer/tokenizer.h"

namespace adamoe {

// The string of special token `id`, where it is one of those that models commonly have.
inline std::optional<std::string> SpecialTokenName(const Tokenizer& tokenizer, int32_t id) {
  if (!tokenizer.IsSpecial(id)) return std::nullopt;
  for (const char* name : {"<s>", "</s>", "<unk>", "<pad>", "<|endoftext|>", "<|begin_of_text|>",
                           "<|end_of_text|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"}) {
    if (tokenizer.TokenId(name) == id) return name;
  }
  return std::nullopt;
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_SPECIAL_TOKENS_H_
