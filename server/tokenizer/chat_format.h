// Chat messages -> token ids, as mistral-common's InstructTokenizerV1 makes them: <s>, then for
// every exchange
// "[INST] user [/INST]" and "assistant" with </s> behind it. A system message goes before the first
// user's, two line feeds between them. Each of these pieces is tokenized for itself, as text:
// "[INST]" is no control token in this format, and nothing in a message can become one. Nothing is
// stripped.
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

// INVALID_ARGUMENT names the message (messages[i]) and what the format cannot express: an unknown
// role, system messages other than at the start, users and assistants that do not alternate, an
// empty assistant message, a conversation that does not start and end with the user, no messages,
// text that is not UTF-8. FAILED_PRECONDITION: the tokenizer lacks <s> or </s> as special tokens.
// Several system messages count as one, two line feeds between them.
absl::StatusOr<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer,
                                                const std::vector<ChatMessage>& messages);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_CHAT_FORMAT_H_
