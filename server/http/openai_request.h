// What OpenAI's clients send to /v1/completions and /v1/chat/completions, as the
// v1::GenerateRequests it asks for: one for each prompt and each of its n choices. Here JSON's
// types are checked, and what this server cannot do is refused; limits are serving's to check.
// Errors are INVALID_ARGUMENT with the field as the client wrote it. Pure functions.
#ifndef ADAMOE_SERVER_HTTP_OPENAI_REQUEST_H_
#define ADAMOE_SERVER_HTTP_OPENAI_REQUEST_H_

#include <adamoe/v1/inference.pb.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adamoe {

enum class OpenAiApi { kCompletions, kChat };

// Prompts times n, at most.
inline constexpr int64_t kMaxOpenAiChoices = 128;

struct OpenAiRequest {
  using Ids = std::vector<uint32_t>;
  using Prompt = std::variant<std::string, Ids>;

  OpenAiApi api = OpenAiApi::kCompletions;
  bool stream = false;
  bool include_usage = false;     // a last chunk of usage
  bool continuous_usage = false;  // usage in every chunk
  bool echo = false;
  bool drops_output = false;  // max_tokens 0 with echo: the prompt alone
  bool logprobs = false;
  bool return_experts = false;
  bool experts_per_layer = false;
  int n = 1;
  std::vector<Prompt> prompts;      // of completions
  bool prompts_are_listed = false;  // the client sent a list of prompts, not one
  v1::GenerateRequest common;       // all but the prompt, the seed of a choice and the id
  std::string max_tokens_field;     // the names the client used
  std::string structured_field;

  int num_prompts() const { return api == OpenAiApi::kChat ? 1 : static_cast<int>(prompts.size()); }
  int num_choices() const { return n * num_prompts(); }
};

// Errors as above; a "model" other than `model_name` is one. It may be left out.
absl::StatusOr<OpenAiRequest> ReadOpenAiRequest(OpenAiApi api, absl::string_view body,
                                                absl::string_view model_name);

// What choice `index` asks for. Choices of a prompt differ in their seed. REQUIRES: index in [0,
// num_choices()).
void FillGenerateRequest(const OpenAiRequest& request, int index, v1::GenerateRequest* proto);

// `field` of choice `index`'s v1::GenerateRequest as the client wrote it: "sampling.stop[1]" ->
// "stop[1]". Names that are no such field stay as they are.
std::string OpenAiField(const OpenAiRequest& request, int index, absl::string_view field);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_OPENAI_REQUEST_H_
