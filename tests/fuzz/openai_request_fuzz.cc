// Outside bytes as bodies of /v1/completions and /v1/chat/completions, and as HTTP requests. What
// is read is checked as any request is; what is wrong with it comes to the client as JSON that
// names a field it knows.
#include <adamoe/v1/inference.pb.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "server/http/api_error.h"
#include "server/http/json_document.h"
#include "server/http/openai_request.h"
#include "server/http/request_parser.h"
#include "server/serving/check_generate.h"
#include "server/serving/request_errors.h"
#include "server/serving/utf8.h"
#include "tests/fakes/tokenizer_file.h"

namespace {

using namespace adamoe;

constexpr int32_t kVocabSize = 300;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

const Tokenizer& GetTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    auto parsed = Tokenizer::Parse(ByteFallbackTokenizer(kVocabSize), "tokenizer.json");
    Require(parsed.ok(), "the tokenizer loads");
    return std::move(*parsed);
  }();
  return *tokenizer;
}

void CheckError(const absl::Status& status) {
  Require(absl::IsInvalidArgument(status), "a bad request is INVALID_ARGUMENT");
  const ApiError error = ToApiError(status);
  Require(error.status == 400 || error.status == 404, "a bad request is the client's");
  const Json json = Json::parse(error.json, nullptr, false);
  Require(!json.is_discarded() && json["error"]["message"].is_string(), "errors are JSON");
  const Json& param = json["error"]["param"];
  Require(param.is_null() || param.get<std::string>().find("sampling") == std::string::npos,
          "fields have the names that clients know");
}

void TryBody(OpenAiApi api, absl::string_view body, const ServedModel& model) {
  const auto request = ReadOpenAiRequest(api, body, "served");
  if (!request.ok()) return CheckError(request.status());
  Require(request->num_choices() >= 1 && request->num_choices() <= kMaxOpenAiChoices,
          "the number of choices is bounded");
  for (int i = 0; i < request->num_choices(); ++i) {
    v1::GenerateRequest proto;
    FillGenerateRequest(*request, i, &proto);
    Require(FirstInvalidUtf8(proto.prompt()) == proto.prompt().size(), "prompts are UTF-8");
    const auto checked = CheckGenerate(proto, GetTokenizer(), model);
    if (checked.ok()) continue;
    CheckError(WithFieldRenamed(checked.status(), [&](absl::string_view field) {
      return OpenAiField(*request, i, field);
    }));
  }
}

// The same however the bytes are cut.
void TryHttp(const std::string& bytes) {
  std::string results[2];
  for (int cut = 0; cut < 2; ++cut) {
    RequestParser parser({.head_bytes = 512, .body_bytes = 512}, "peer");
    std::string buffer;
    RequestParser::State state = RequestParser::State::kNeedsMore;
    const size_t step = cut == 0 ? bytes.size() : 1;
    for (size_t i = 0; i < bytes.size() && state == RequestParser::State::kNeedsMore; i += step) {
      buffer += bytes.substr(i, step);
      do {
        state = parser.Parse(&buffer);
      } while (state == RequestParser::State::kHead);
    }
    if (state != RequestParser::State::kDone) continue;
    results[cut] = parser.head().method + " " + parser.head().path + " " + parser.TakeBody();
  }
  Require(results[0] == results[1], "a request does not depend on how it is cut");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ServedModel model = [] {
    ServedModel served;
    served.vocab_size = kVocabSize;
    served.max_context_tokens = 64;
    served.eos_token_ids = {2};
    return served;
  }();
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  TryBody(OpenAiApi::kCompletions, bytes, model);
  TryBody(OpenAiApi::kChat, bytes, model);
  TryHttp(bytes);
  return 0;
}
