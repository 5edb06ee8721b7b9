#include "server/http/openai_input.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

// Text, or parts of it.
void ReadContent(const Json& content, const std::string& name, FieldReader& fields,
                 std::string* text) {
  if (content.is_string()) {
    *text = content.get<std::string>();
    return;
  }
  if (!content.is_array()) {
    return fields.Fail(name,
                       absl::StrCat("must be a string or a list of parts, is ", KindOf(content)));
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string part_name = absl::StrCat(name, "[", i, "]");
    if (!content[i].is_object()) return fields.Fail(part_name, "must be an object");
    FieldReader part(content[i], part_name + ".");
    const std::string type = part.String("type").value_or("");
    if (type == "text") {
      const auto piece = part.String("text");
      if (!piece.has_value()) part.Fail("text", "is missing");
      text->append(piece.value_or(""));
    } else {
      part.Fail("type", absl::StrCat("'", type.substr(0, 64), "': only text is supported"));
    }
    fields.Fail(part.status());
  }
}

}  // namespace

std::optional<OpenAiRequest::Ids> ReadIds(const Json& array, const std::string& name,
                                          FieldReader& fields) {
  OpenAiRequest::Ids ids;
  ids.reserve(array.size());
  for (const Json& value : array) {
    const auto id = value.is_number() ? WholeNumber(value) : std::nullopt;
    if (!id.has_value() || *id < 0 || *id > std::numeric_limits<uint32_t>::max()) {
      fields.Fail(absl::StrCat(name, "[", ids.size(), "]"),
                  absl::StrCat(value.is_number() ? value.dump() : std::string(KindOf(value)),
                               " is no token id"));
      return std::nullopt;
    }
    ids.push_back(static_cast<uint32_t>(*id));
  }
  return ids;
}

void ReadPrompts(FieldReader& fields, OpenAiRequest& request) {
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", "is missing");
  if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array() || prompt->empty()) {
    return fields.Fail("prompt",
                       "must be a string, token ids, or a list of strings or of lists of token "
                       "ids, and not empty");
  }
  if (prompt->front().is_number()) {
    if (auto ids = ReadIds(*prompt, "prompt", fields))
      request.prompts.emplace_back(*std::move(ids));
    return;
  }
  request.prompts_are_listed = true;
  if (prompt->size() > kMaxOpenAiChoices) {
    return fields.Fail("prompt", absl::StrCat(prompt->size(), " prompts, at most ",
                                              kMaxOpenAiChoices, " are allowed"));
  }
  for (const Json& value : *prompt) {
    const std::string name = absl::StrCat("prompt[", request.prompts.size(), "]");
    if (value.is_string()) {
      request.prompts.emplace_back(value.get<std::string>());
    } else if (value.is_array()) {
      auto ids = ReadIds(value, name, fields);
      if (!ids.has_value()) return;
      request.prompts.emplace_back(*std::move(ids));
    } else {
      return fields.Fail(
          name, absl::StrCat("must be a string or a list of token ids, is ", KindOf(value)));
    }
  }
}

void ReadMessages(FieldReader& fields, OpenAiRequest& request) {
  const Json* messages = fields.Array("messages");
  if (messages == nullptr) return fields.Fail("messages", "is missing");
  request.common.mutable_messages();  // also where there are none
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& value = (*messages)[i];
    const std::string name = absl::StrCat("messages[", i, "]");
    if (!value.is_object()) return fields.Fail(name, "must be an object");
    FieldReader message(value, name + ".");
    v1::Message& proto = *request.common.mutable_messages()->add_messages();
    const std::string role = message.String("role").value_or("");
    proto.set_role(role == "developer" ? "system" : role);
    const Json* content = message.Find("content");
    if (content == nullptr) {
      message.Fail("content", "is missing");
    } else {
      ReadContent(*content, name + ".content", fields, proto.mutable_content());
    }
    const Json* tools = message.Find("tool_calls");
    if (tools != nullptr && !tools->empty()) message.Fail("tool_calls", "tools are not supported");
    fields.Fail(message.status());
    if (!fields.status().ok()) return;
  }
}

}  // namespace adamoe
