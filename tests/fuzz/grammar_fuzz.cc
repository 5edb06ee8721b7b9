// Outside bytes as grammars: the first says of which syntax. Whatever they are, the server is told
// in time what comes of them, and can follow what compiles along some tokens.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/structured/fork_server.h"
#include "server/structured/grammar.h"

namespace {

using namespace adamoe;

constexpr int32_t kVocabSize = 257;  // a stop token, then every byte
constexpr absl::Duration kTimeout = absl::Milliseconds(300);

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

ForkServer* GetForkServer() {
  static const std::unique_ptr<ForkServer> fork_server = [] {
    auto started = ForkServer::Start();
    Require(started.ok(), "the fork server starts");
    Vocabulary vocabulary = {""};
    for (int byte = 0; byte < 256; ++byte) vocabulary.emplace_back(1, static_cast<char>(byte));
    Require((*started)->SetVocabulary(vocabulary).ok(), "it takes a vocabulary");
    return std::move(*started);
  }();
  return fork_server.get();
}

void CheckError(const absl::Status& status) {
  Require(absl::IsInvalidArgument(status) || absl::IsResourceExhausted(status),
          "a grammar is bad or costly, and nothing else");
  for (const char c : status.message()) {
    Require(c >= 0x20 && c < 0x7f, "messages are plain text");
  }
}

void Follow(Grammar* grammar) {
  const auto matcher = grammar->NewMatcher({0});
  Require(matcher.ok(), "a grammar has matchers");
  for (uint32_t i = 0; i < 20; ++i) {
    const auto mask = (*matcher)->Allowed();
    if (!mask.ok()) return CheckError(mask.status());
    int32_t id = 1;
    while (id < kVocabSize && !IsAllowed(*mask, 1 + (id + 97 * i) % 256)) ++id;
    if (id == kVocabSize) return;
    (*matcher)->Append(static_cast<int32_t>(1 + (id + 97 * i) % 256));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const absl::Notification never;
  if (size == 0 || size > 65536) return 0;
  constexpr GrammarText::Syntax kSyntaxes[] = {
      GrammarText::Syntax::kJsonSchema, GrammarText::Syntax::kRegex, GrammarText::Syntax::kEbnf};
  const GrammarText text = {kSyntaxes[data[0] % 3],
                            std::string(reinterpret_cast<const char*>(data) + 1, size - 1)};
  Grammar::Limits limits;
  limits.compile_timeout = kTimeout;
  const absl::Time begin = absl::Now();
  const auto grammar = Grammar::Compile(text, limits, kVocabSize, never, GetForkServer());
  Require(absl::Now() - begin < absl::Seconds(30), "an answer comes in time");
  if (!grammar.ok()) {
    CheckError(grammar.status());
  } else {
    Follow(grammar->get());
  }
  return 0;
}
