#include "server/http/openai_response.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/http/json_document.h"
#include "server/http/special_tokens.h"
#include "server/log/json_text.h"

namespace adamoe {
namespace {

// JSON has no infinity.
constexpr double kLeastLogprob = -9999.0;

std::string Quoted(const std::string& text) { return JsonText(text); }

// The float's own value: two that are the same come out the same.
std::string Number(float value) {
  const double number = std::isfinite(value) ? static_cast<double>(value) : kLeastLogprob;
  return Json(number).dump();
}

void AddItem(absl::string_view item, std::string& list) {
  absl::StrAppend(&list, list.empty() ? "" : ",", item);
}

size_t NumCharacters(absl::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

const char* FinishName(v1::FinishReason reason) {
  return reason == v1::LENGTH ? "\"length\"" : "\"stop\"";
}

}  // namespace

void OpenAiUsage::Add(const v1::Usage& usage, bool counts_prompt, bool counts_output) {
  if (counts_prompt) {
    prompt_tokens += usage.prompt_tokens();
    cached_tokens += usage.cached_prompt_tokens();
  }
  if (counts_output) completion_tokens += usage.completion_tokens();
  has_experts = true;
  true_slots += usage.true_slots();
  null_slots += usage.null_slots();
  dropped_slots += usage.dropped_slots();
  executed_flops += usage.executed_expert_flops();
  saved_flops += usage.saved_expert_flops();
  baseline_flops += usage.baseline_expert_flops();
}

std::string OpenAiUsage::Json() const {
  std::string json = absl::StrCat("{\"prompt_tokens\":", prompt_tokens,
                                  ",\"completion_tokens\":", completion_tokens,
                                  ",\"total_tokens\":", prompt_tokens + completion_tokens);
  if (has_experts) {
    absl::StrAppend(&json, ",\"prompt_tokens_details\":{\"cached_tokens\":", cached_tokens,
                    "},\"experts\":{\"true_slots\":", true_slots, ",\"null_slots\":", null_slots,
                    ",\"dropped_slots\":", dropped_slots);
    absl::StrAppend(&json, ",\"executed_flops\":", executed_flops, ",\"saved_flops\":", saved_flops,
                    ",\"baseline_flops\":", baseline_flops, "}");
  }
  return json + "}";
}

OpenAiChoice::OpenAiChoice(const OpenAiForm* form, int index, const Tokenizer* tokenizer,
                           std::optional<std::string> echoed)
    : form_(*form),
      index_(index),
      tokenizer_(*tokenizer),
      prompt_decoder_(*tokenizer, /*follows_text=*/false),
      output_decoder_(*tokenizer, /*follows_text=*/true),
      text_(std::move(echoed).value_or("")) {}

void OpenAiChoice::Add(const v1::GenerateResponse& message) {
  for (const v1::Token& token : message.prompt_tokens_info()) {
    if (form_.logprobs) AddToken(token, prompt_decoder_);
  }
  if (message.has_finish()) finish_ = message.finish();
  if (form_.drops_output) {
    if (finish_.has_value()) finish_->set_reason(v1::LENGTH);
    return;
  }
  for (const v1::Token& token : message.tokens()) {
    last_token_ = token.id();
    if (num_tokens_++ == 0) offset_ += NumCharacters(prompt_decoder_.Flush());
    if (form_.logprobs) AddToken(token, output_decoder_);
    if (form_.return_experts) AddItem(absl::StrCat(token.experts()), experts_);
    if (form_.experts_per_layer) {
      AddItem(absl::StrCat("[", absl::StrJoin(token.experts_per_layer(), ","), "]"),
              experts_per_layer_);
    }
  }
  text_.append(message.text());
}

void OpenAiChoice::AddToken(const v1::Token& token, IncrementalDecoder& decoder) {
  if (form_.api == OpenAiApi::kChat) return AddChatLogprob(token);
  AddCompletionLogprob(token);
  // What a token settles may begin with text that was held back, and ends with its own.
  const size_t before = offset_;
  offset_ += NumCharacters(decoder.Push(static_cast<int32_t>(token.id())));
  const size_t own = NumCharacters(token.text());
  AddItem(absl::StrCat(offset_ > before + own ? offset_ - own : before), text_offsets_);
}

void OpenAiChoice::AddCompletionLogprob(const v1::Token& token) {
  const std::string text = TextOf(token.id(), token.text());
  AddItem(Quoted(text), tokens_);
  if (!token.has_logprob()) {  // the first token of a prompt
    AddItem("null", token_logprobs_);
    AddItem("null", top_logprobs_);
    return;
  }
  AddItem(Number(token.logprob()), token_logprobs_);
  // By text, which several tokens may share: the likeliest of them stands for it. The token itself
  // is always among them.
  std::vector<std::pair<std::string, float>> tops;
  const auto add = [&tops](std::string key, float logprob) {
    for (auto& [known, value] : tops) {
      if (known != key) continue;
      value = std::max(value, logprob);
      return;
    }
    tops.emplace_back(std::move(key), logprob);
  };
  for (const v1::TokenLogprob& top : token.top_logprobs()) {
    add(TextOf(top.id(), top.text()), top.logprob());
  }
  add(text, token.logprob());
  std::string members;
  for (const auto& [key, value] : tops) {
    AddItem(absl::StrCat(Quoted(key), ":", Number(value)), members);
  }
  AddItem(absl::StrCat("{", members, "}"), top_logprobs_);
}

std::string OpenAiChoice::TextOf(uint32_t id, const std::string& text) const {
  if (!text.empty()) return text;
  return SpecialTokenName(tokenizer_, static_cast<int32_t>(id)).value_or(text);
}

std::string OpenAiChoice::ChatToken(uint32_t id, const std::string& text, double logprob) const {
  const std::string bytes = tokenizer_.TokenBytes(static_cast<int32_t>(id));
  std::string numbers;
  for (const char byte : bytes) {
    AddItem(absl::StrCat(static_cast<int>(static_cast<unsigned char>(byte))), numbers);
  }
  return absl::StrCat("\"token\":", Quoted(TextOf(id, text)),
                      ",\"logprob\":", Number(static_cast<float>(logprob)), ",\"bytes\":[", numbers,
                      "]");
}

void OpenAiChoice::AddChatLogprob(const v1::Token& token) {
  std::string tops;
  for (const v1::TokenLogprob& top : token.top_logprobs()) {
    AddItem(absl::StrCat("{", ChatToken(top.id(), top.text(), top.logprob()), "}"), tops);
  }
  AddItem(absl::StrCat("{", ChatToken(token.id(), token.text(), token.logprob()),
                       ",\"top_logprobs\":[", tops, "]}"),
          content_);
}

std::string OpenAiChoice::LogprobsJson() const {
  if (!form_.logprobs) return "null";
  if (form_.api == OpenAiApi::kChat) return absl::StrCat("{\"content\":[", content_, "]}");
  return absl::StrCat("{\"tokens\":[", tokens_, "],\"token_logprobs\":[", token_logprobs_,
                      "],\"top_logprobs\":[", top_logprobs_, "],\"text_offset\":[", text_offsets_,
                      "]}");
}

std::string OpenAiChoice::StopReasonJson() const {
  if (!finish_.has_value()) return "null";
  if (finish_->reason() == v1::STOP_SEQUENCE) return Quoted(finish_->stop_sequence());
  const auto& ids = form_.stop_token_ids;
  const bool asked_for = finish_->reason() == v1::STOP_TOKEN &&
                         std::find(ids.begin(), ids.end(), last_token_) != ids.end();
  return asked_for ? absl::StrCat(last_token_) : "null";
}

std::string OpenAiChoice::TakeJson() {
  std::string json = absl::StrCat("{\"index\":", index_);
  if (form_.api == OpenAiApi::kCompletions) {
    absl::StrAppend(&json, ",\"text\":", Quoted(text_));
  } else if (form_.chunks) {
    absl::StrAppend(&json, ",\"delta\":{\"content\":", Quoted(text_), "}");
  } else {
    absl::StrAppend(&json, ",\"message\":{\"role\":\"assistant\",\"content\":", Quoted(text_),
                    ",\"refusal\":null}");
  }
  absl::StrAppend(&json, ",\"logprobs\":", LogprobsJson());
  if (form_.return_experts) absl::StrAppend(&json, ",\"experts\":[", experts_, "]");
  if (form_.experts_per_layer) {
    absl::StrAppend(&json, ",\"experts_per_layer\":[", experts_per_layer_, "]");
  }
  absl::StrAppend(
      &json, ",\"finish_reason\":", finish_.has_value() ? FinishName(finish_->reason()) : "null",
      ",\"stop_reason\":", StopReasonJson(), "}");
  for (std::string* taken : {&text_, &tokens_, &token_logprobs_, &top_logprobs_, &text_offsets_,
                             &content_, &experts_, &experts_per_layer_}) {
    taken->clear();
  }
  return json;
}

std::string OpenAiChoice::RoleJson() const {
  return absl::StrCat("{\"index\":", index_,
                      ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                      "\"finish_reason\":null}");
}

std::string OpenAiResponseJson(const OpenAiForm& form, absl::string_view choices,
                               absl::string_view usage) {
  const bool is_chat = form.api == OpenAiApi::kChat;
  const char* object = !is_chat      ? "text_completion"
                       : form.chunks ? "chat.completion.chunk"
                                     : "chat.completion";
  std::string json =
      absl::StrCat("{\"id\":\"", form.id, "\",\"object\":\"", object,
                   "\",\"created\":", form.created, ",\"model\":", Quoted(form.model));
  absl::StrAppend(&json, ",\"choices\":[", choices, "]");
  if (!usage.empty()) {
    absl::StrAppend(&json, ",\"usage\":", usage);
  } else if (form.null_usage) {
    absl::StrAppend(&json, ",\"usage\":null");
  }
  return json + "}";
}

}  // namespace adamoe
