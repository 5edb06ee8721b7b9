// Chat messages -> token ids, as mistral-common's InstructTokenizerV1 makes them:
// <s> then, per exchange, "[INST] user [/INST]" and "assistant</s>"; a system message is put before the last... see .cc.
#ifndef ADAMOE_SERVER_TOKENIZER_CHAT_FORMAT_H_
#define ADAMOE_SERVER_TOKENIZER_CHAT_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// INVALID_ARGUMENT names the message (messages[i]) and what the format cannot express: an unknown role, roles that do not
// alternate, a conversation that does not end with the user, no messages.
absl::StatusOr<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_CHAT_FORMAT_H_
