// Grammar processes for a test, and what it asks of them.
#ifndef ADAMOE_TESTS_UNIT_STRUCTURED_GRAMMARS_H_
#define ADAMOE_TESTS_UNIT_STRUCTURED_GRAMMARS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "server/structured/fork_server.h"
#include "server/structured/grammar.h"
#include "server/structured/grammar_text.h"
#include "server/structured/vocabulary.h"

namespace adamoe {

inline constexpr int32_t kEnd = 0;  // a stop token of the vocabularies below

// A stop token, every byte, then `more`.
inline Vocabulary ByteVocabulary(const std::vector<std::string>& more = {}) {
  Vocabulary vocabulary = {""};
  for (int byte = 0; byte < 256; ++byte) vocabulary.emplace_back(1, static_cast<char>(byte));
  vocabulary.insert(vocabulary.end(), more.begin(), more.end());
  return vocabulary;
}

inline GrammarText Regex(std::string text) {
  return {GrammarText::Syntax::kRegex, std::move(text)};
}
inline GrammarText Ebnf(std::string text) { return {GrammarText::Syntax::kEbnf, std::move(text)}; }
inline GrammarText Schema(std::string text) {
  return {GrammarText::Syntax::kJsonSchema, std::move(text)};
}

inline std::string Repeat(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// REQUIRES: made while the test has one thread.
struct Grammars {
  explicit Grammars(const Vocabulary& vocabulary = ByteVocabulary())
      : vocab_size(static_cast<int32_t>(vocabulary.size())) {
    auto started = ForkServer::Start();
    EXPECT_TRUE(started.ok()) << started.status();
    fork_server = std::move(*started);
    EXPECT_TRUE(fork_server->SetVocabulary(vocabulary).ok());
  }

  absl::StatusOr<std::shared_ptr<Grammar>> Compile(const GrammarText& text) {
    return Grammar::Compile(text, limits, vocab_size, stop, fork_server.get());
  }

  // A matcher of a grammar that must compile.
  std::unique_ptr<TokenMatcher> Matcher(const GrammarText& text,
                                        const std::vector<int32_t>& stops = {kEnd}) {
    const auto grammar = Compile(text);
    EXPECT_TRUE(grammar.ok()) << text.text << ": " << grammar.status();
    if (!grammar.ok()) return nullptr;
    auto matcher = (*grammar)->NewMatcher(stops);
    EXPECT_TRUE(matcher.ok()) << matcher.status();
    return std::move(*matcher);
  }

  const int32_t vocab_size;
  Grammar::Limits limits;
  absl::Notification stop;
  std::unique_ptr<ForkServer> fork_server;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_STRUCTURED_GRAMMARS_H_
