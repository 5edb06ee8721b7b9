#include "server/http/openai_refusals.h"

#include <string>

#include "server/http/json_document.h"

namespace adamoe {
namespace {

// What would change the answer, and is not done. Null, false, and what is empty ask for nothing.
struct Refusal {
  const char* field;
  const char* why;
  const char* allowed = nullptr;  // JSON text of the one value that asks for nothing either
};

constexpr Refusal kRefusedByBoth[] = {
    {"use_beam_search", "beam search is not done here"},
    {"prompt_logprobs", "log-probabilities of the prompt come with echo and logprobs"},
    {"include_stop_str_in_output", "stop strings are not part of the output"},
    {"skip_special_tokens", "special tokens have no text here", "true"},
    {"truncate_prompt_tokens", "prompts are never cut"},
    {"allowed_token_ids", "use logit_bias or structured_outputs"},
    {"bad_words", "use logit_bias"},
    {"logits_processors", "not supported"},
};
constexpr Refusal kRefusedByCompletions[] = {
    {"suffix", "insertion is not supported"},
    {"add_special_tokens", "send token ids instead", "true"},
    {"prompt_embeds", "not supported"},
};
constexpr Refusal kRefusedByChat[] = {
    {"functions", "tools are not supported"},
    {"function_call", "tools are not supported", "\"none\""},
    {"audio", "only text is supported"},
    {"modalities", "only text is supported", "[\"text\"]"},
    {"prediction", "not supported"},
    {"web_search_options", "not supported"},
    {"echo", "only /v1/completions does that"},
    {"chat_template", "the format of a conversation is the server's own"},
    {"continue_final_message", "not supported"},
    {"add_generation_prompt", "not supported", "true"},
};

bool AsksForNothing(const Json& value, const char* allowed) {
  if (value.is_boolean() && !value.get<bool>() && allowed == nullptr) return true;
  if ((value.is_string() || value.is_structured()) && value.empty()) return true;
  if (value.is_string() && value.get_ref<const std::string&>().empty()) return true;
  return allowed != nullptr && value == Json::parse(allowed);
}

template <size_t kSize>
void Refuse(const Refusal (&refusals)[kSize], FieldReader& fields) {
  for (const auto& [name, why, allowed] : refusals) {
    const Json* value = fields.Find(name);
    if (value == nullptr || AsksForNothing(*value, allowed)) continue;
    fields.Fail(name, why);
  }
}

// Tools that the model may not use are no more than words it is not told.
void RefuseTools(FieldReader& fields) {
  const Json* choice = fields.Find("tool_choice");
  const Json* tools = fields.Find("tools");
  if (choice != nullptr && *choice == "none") return;
  if (tools != nullptr && !tools->empty()) {
    fields.Fail("tools", "tools are not supported");
  } else if (choice != nullptr && *choice != "auto") {
    fields.Fail("tool_choice", "tools are not supported");
  }
}

}  // namespace

void RefuseUnsupported(OpenAiApi api, FieldReader& fields) {
  Refuse(kRefusedByBoth, fields);
  if (api == OpenAiApi::kChat) {
    Refuse(kRefusedByChat, fields);
    RefuseTools(fields);
  } else {
    Refuse(kRefusedByCompletions, fields);
  }
}

}  // namespace adamoe
