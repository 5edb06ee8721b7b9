#include "server/tokenizer/chat_format.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

constexpr absl::string_view kBetweenTexts = "\n\n";

absl::Status MessageError(size_t index, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("messages[", index, "]: ", problem));
}

absl::StatusOr<int32_t> ControlToken(const Tokenizer& tokenizer, absl::string_view name) {
  const int32_t id = tokenizer.TokenId(name);
  if (tokenizer.IsSpecial(id)) return id;
  return absl::FailedPreconditionError(
      absl::StrCat("the model's tokenizer has no special token ", name, ": it takes no messages"));
}

// Messages up to the first that is no system message, as one text.
std::string SystemPrompt(const std::vector<ChatMessage>& messages, size_t num_system) {
  std::string prompt;
  for (size_t i = 0; i < num_system; ++i) {
    if (!prompt.empty() && !messages[i].content.empty()) absl::StrAppend(&prompt, kBetweenTexts);
    prompt += messages[i].content;
  }
  return prompt;
}

absl::Status CheckTurn(const std::vector<ChatMessage>& messages, size_t index, bool users_turn) {
  const ChatMessage& message = messages[index];
  const absl::string_view expected = users_turn ? "user" : "assistant";
  if (message.role == "system") {
    return MessageError(index, "role \"system\" is taken at the start of a conversation only");
  }
  if (message.role != "user" && message.role != "assistant") {
    return MessageError(index, absl::StrCat("role is \"", message.role,
                                            "\", not \"system\", \"user\" or \"assistant\""));
  }
  if (message.role != expected) {
    return MessageError(index,
                        absl::StrCat("role is \"", message.role, "\" where \"", expected,
                                     "\" must follow: user and assistant alternate, user first"));
  }
  if (!users_turn && message.content.empty()) {
    return MessageError(index, "content of an assistant message is empty");
  }
  return absl::OkStatus();
}

absl::Status CheckConversation(const std::vector<ChatMessage>& messages, size_t num_system) {
  if (messages.empty()) return absl::InvalidArgumentError("messages: expected at least one");
  for (size_t i = num_system; i < messages.size(); ++i) {
    RETURN_IF_ERROR(CheckTurn(messages, i, (i - num_system) % 2 == 0));
  }
  const size_t last = messages.size() - 1;
  if (messages[last].role != "user") {
    return MessageError(last, "the last message must be the user's");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer,
                                                const std::vector<ChatMessage>& messages) {
  size_t num_system = 0;
  while (num_system < messages.size() && messages[num_system].role == "system") ++num_system;
  RETURN_IF_ERROR(CheckConversation(messages, num_system));
  ASSIGN_OR_RETURN(const int32_t bos, ControlToken(tokenizer, "<s>"));
  ASSIGN_OR_RETURN(const int32_t eos, ControlToken(tokenizer, "</s>"));
  std::string prefix = SystemPrompt(messages, num_system);
  if (!prefix.empty()) absl::StrAppend(&prefix, kBetweenTexts);
  std::vector<int32_t> ids = {bos};
  for (size_t i = num_system; i < messages.size(); ++i) {
    const bool from_user = messages[i].role == "user";
    const std::string text = from_user
                                 ? absl::StrCat("[INST] ", prefix, messages[i].content, " [/INST]")
                                 : messages[i].content;
    prefix.clear();  // said once, to the first user message
    const auto piece = tokenizer.Encode(text, {.add_special_tokens = false});
    if (!piece.ok())
      return absl::Status(piece.status().code(),
                          MessageError(i, piece.status().message()).message());
    ids.insert(ids.end(), piece->begin(), piece->end());
    if (!from_user) ids.push_back(eos);
  }
  return ids;
}

}  // namespace adamoe
