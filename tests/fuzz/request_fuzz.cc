// Outside bytes as GenerateRequest and ScoreRequest: parsed and checked as the service does. What
// passes must keep the promises that the executor relies on.
#include <adamoe/v1/inference.pb.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "server/serving/check_generate.h"
#include "server/serving/check_score.h"
#include "server/serving/utf8.h"
#include "server/serving/wire_parser.h"
#include "tests/fakes/tokenizer_file.h"

namespace {

using namespace adamoe;

constexpr int32_t kVocabSize = 300;
constexpr int32_t kContext = 64;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

const Tokenizer& GetTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    QuietProtobufLog();
    auto parsed = Tokenizer::Parse(ByteFallbackTokenizer(kVocabSize), "tokenizer.json");
    Require(parsed.ok(), "the tokenizer loads");
    return std::move(*parsed);
  }();
  return *tokenizer;
}

ServedModel MakeModel() {
  ServedModel model;
  model.vocab_size = kVocabSize;
  model.max_context_tokens = kContext;
  model.eos_token_ids = {2};
  return model;
}

void CheckIds(const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) Require(id >= 0 && id < kVocabSize, "ids are in the vocabulary");
}

void CheckError(const absl::Status& status) {
  Require(absl::IsInvalidArgument(status), "a bad request is INVALID_ARGUMENT");
  Require(FirstInvalidUtf8(status.message()) == status.message().size(), "messages are UTF-8");
}

void TryGenerate(absl::string_view bytes, const ServedModel& model) {
  v1::GenerateRequest proto;
  const absl::Status parsed = ParseWire(bytes, &proto);
  if (!parsed.ok()) return CheckError(parsed);
  const auto checked = CheckGenerate(proto, GetTokenizer(), model);
  if (!checked.ok()) return CheckError(checked.status());
  const Request& request = *checked->request;
  CheckIds(request.prompt);
  CheckIds(request.sampling.stop_token_ids);
  Require(!request.prompt.empty(), "there is a prompt");
  Require(request.sampling.max_tokens >= 1 &&
              request.prompt.size() + request.sampling.max_tokens <= kContext,
          "prompt and output fit the context");
  Require(request.sampling.min_tokens <= request.sampling.max_tokens, "min_tokens <= max_tokens");
  Require(request.sampling.temperature >= 0 && request.sampling.temperature <= 100, "temperature");
  Require(request.sampling.top_p > 0 && request.sampling.top_p <= 1, "top_p");
  Require(request.sampling.repetition_penalty > 0, "repetition_penalty");
  for (const auto& [id, bias] : request.sampling.logit_bias) {
    CheckIds({id});
    Require(bias >= -100 && bias <= 100, "logit_bias");
  }
  for (const std::string& stop : checked->stops) Require(!stop.empty(), "stops are not empty");
}

void TryScore(absl::string_view bytes, const ServedModel& model) {
  v1::ScoreRequest proto;
  const absl::Status parsed = ParseWire(bytes, &proto);
  if (!parsed.ok()) return CheckError(parsed);
  const auto checked = CheckScore(proto, GetTokenizer(), model);
  if (!checked.ok()) return CheckError(checked.status());
  CheckIds(checked->context);
  Require(!checked->context.empty(), "there is a context");
  Require(!checked->continuations.empty(), "there are continuations");
  for (const auto& continuation : checked->continuations) {
    CheckIds(continuation);
    Require(!continuation.empty(), "continuations have tokens");
    Require(checked->context.size() + continuation.size() <= kContext, "they fit the context");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ServedModel model = MakeModel();
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  TryGenerate(bytes, model);
  TryScore(bytes, model);
  return 0;
}
