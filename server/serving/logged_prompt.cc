#include "server/serving/logged_prompt.h"

#include <adamoe/v1/inference.pb.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/log/request_line.h"

namespace adamoe {
namespace {

// One more byte than the log holds tells it that there is more.
constexpr size_t kEnough = kMaxLoggedPromptBytes + 1;

std::string StartOf(absl::string_view text) { return std::string(text.substr(0, kEnough)); }

std::string StartOf(const v1::TokenIds& tokens) {
  std::string text = "[";
  for (int i = 0; i < tokens.ids_size() && text.size() < kEnough; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", tokens.ids(i));
  }
  return text + "]";
}

std::string StartOf(const v1::Messages& messages) {
  std::string text;
  for (const v1::Message& message : messages.messages()) {
    if (text.size() >= kEnough) break;
    absl::StrAppend(&text, text.empty() ? "" : "\n", StartOf(message.role()), ": ",
                    StartOf(message.content()));
  }
  return text;
}

}  // namespace

std::string LoggedPrompt(const v1::GenerateRequest& request) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kPrompt:
      return StartOf(request.prompt());
    case v1::GenerateRequest::kPromptTokens:
      return StartOf(request.prompt_tokens());
    case v1::GenerateRequest::kMessages:
      return StartOf(request.messages());
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return "";
}

std::string LoggedPrompt(const v1::ScoreRequest& request) {
  return request.has_context_tokens() ? StartOf(request.context_tokens())
                                      : StartOf(request.context());
}

}  // namespace adamoe
