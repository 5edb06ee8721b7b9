// What OpenAI's clients get: the messages of a request's generations as JSON, whole or chunk by
// chunk. Thread-compatible.
#ifndef ADAMOE_SERVER_HTTP_OPENAI_RESPONSE_H_
#define ADAMOE_SERVER_HTTP_OPENAI_RESPONSE_H_

#include <adamoe/v1/inference.pb.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/http/openai_request.h"
#include "server/tokenizer/incremental_decoder.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

// What of a response is the same for all its choices and chunks.
struct OpenAiForm {
  OpenAiApi api = OpenAiApi::kCompletions;
  bool chunks = false;  // objects of a stream
  std::string id;       // "cmpl-..." or "chatcmpl-..."
  int64_t created = 0;  // seconds since the epoch
  std::string model;
  bool logprobs = false;
  bool return_experts = false;
  bool experts_per_layer = false;
  bool drops_output = false;
  bool null_usage = false;               // chunks without usage say so
  std::vector<uint32_t> stop_token_ids;  // of the request, without the model's own
};

// What a request has cost.
struct OpenAiUsage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t cached_tokens = 0;
  bool has_experts = false;  // the rest is known
  uint64_t true_slots = 0;
  uint64_t null_slots = 0;
  uint64_t dropped_slots = 0;
  uint64_t executed_flops = 0;
  uint64_t saved_flops = 0;
  uint64_t baseline_flops = 0;

  // Adds what one choice has cost. A prompt counts once, with its first choice.
  void Add(const v1::Usage& usage, bool counts_prompt, bool counts_output);
  std::string Json() const;
};

// One choice: takes messages as they come, gives JSON. What it holds between the two is text, so
// that a long answer is not put together at once at its end.
class OpenAiChoice {
 public:
  // `form` and `tokenizer` must outlive this. `echoed` comes before the output, with the prompt's
  // tokens where log-probabilities are asked for.
  OpenAiChoice(const OpenAiForm* form, int index, const Tokenizer* tokenizer,
               std::optional<std::string> echoed);

  void Add(const v1::GenerateResponse& message);

  // The choice as an object, of all that was added since the last call.
  std::string TakeJson();
  // The choice that starts a stream of chat: who speaks.
  std::string RoleJson() const;

  uint32_t num_tokens() const { return num_tokens_; }
  // Set by the last message.
  const std::optional<v1::Finish>& finish() const { return finish_; }

 private:
  void AddToken(const v1::Token& token, IncrementalDecoder& decoder);
  void AddCompletionLogprob(const v1::Token& token);
  void AddChatLogprob(const v1::Token& token);
  // The token's text; for a special token its string.
  std::string TextOf(uint32_t id, const std::string& text) const;
  std::string ChatToken(uint32_t id, const std::string& text, double logprob) const;
  std::string LogprobsJson() const;
  // What of the request's stops ended the output: a string, a token's id, or null.
  std::string StopReasonJson() const;

  const OpenAiForm& form_;
  const int index_;
  const Tokenizer& tokenizer_;
  IncrementalDecoder prompt_decoder_;
  IncrementalDecoder output_decoder_;
  size_t offset_ = 0;  // characters of the text before the next token
  uint32_t num_tokens_ = 0;
  uint32_t last_token_ = 0;
  std::optional<v1::Finish> finish_;

  // Since the last TakeJson: text, and lists of JSON without their brackets.
  std::string text_;
  std::string tokens_;
  std::string token_logprobs_;
  std::string top_logprobs_;
  std::string text_offsets_;
  std::string content_;
  std::string experts_;
  std::string experts_per_layer_;
};

// The response, or a chunk of it, around `choices`: objects with commas between them. `usage` is
// JSON, or empty for none.
std::string OpenAiResponseJson(const OpenAiForm& form, absl::string_view choices,
                               absl::string_view usage);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_OPENAI_RESPONSE_H_
