#include "server/structured/compile.h"

#include <xgrammar/matcher.h>

#include <algorithm>
#include <ctime>
#include <exception>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/request/token_matcher.h"
#include "server/structured/fill_mask.h"
#include "server/structured/schema_keywords.h"

namespace adamoe {
namespace {

// White space between JSON's tokens: enough to indent, not enough to go on for ever.
constexpr int kMaxWhitespace = 8;
constexpr int kWalks = 4;
constexpr int kTokensPerWalk = 32;
constexpr size_t kMaxMessageBytes = 300;

// What a warning during Compile said, the first one. A warning means that part of the grammar is
// not followed.
thread_local std::string* warning = nullptr;

// A message without what only XGrammar's authors need: the check that failed, the repeated input.
std::string Clean(std::string message) {
  if (const size_t check = message.rfind(") is false: "); check != std::string::npos) {
    message.erase(0, check + 12);
  }
  if (const size_t echo = message.find(". The JSON string is:"); echo != std::string::npos) {
    message.erase(echo);
  }
  absl::StripAsciiWhitespace(&message);
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  }
  if (message.size() > kMaxMessageBytes) {
    message.resize(kMaxMessageBytes);
    message += "...";
  }
  return message.empty() ? "not understood" : message;
}

xgrammar::CompiledGrammar CompileOrThrow(const GrammarText& grammar,
                                         const xgrammar::TokenizerInfo& vocabulary) {
  xgrammar::GrammarCompiler compiler(vocabulary, /*max_threads=*/1, /*cache_enabled=*/false);
  switch (grammar.syntax) {
    case GrammarText::Syntax::kJsonSchema:
      return compiler.CompileJSONSchema(grammar.text, /*any_whitespace=*/true, std::nullopt,
                                        std::nullopt, /*strict_mode=*/true, kMaxWhitespace);
    case GrammarText::Syntax::kRegex:
      return compiler.CompileRegex(grammar.text);
    case GrammarText::Syntax::kEbnf:
      break;
  }
  return compiler.CompileGrammar(grammar.text, "root");
}

// Of this thread.
absl::Duration ProcessorTime() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

std::vector<int32_t> IdsOf(const std::vector<uint32_t>& mask) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < mask.size() * 32; ++i) {
    if (IsAllowed(mask, static_cast<int32_t>(i))) ids.push_back(static_cast<int32_t>(i));
  }
  return ids;
}

absl::Status Walk(const xgrammar::CompiledGrammar& grammar, absl::Duration token_limit,
                  std::mt19937& random) {
  xgrammar::GrammarMatcher matcher(grammar);
  const int32_t vocab_size = grammar.GetTokenizerInfo().GetVocabSize();
  std::vector<uint32_t> mask(TokenMaskWords(vocab_size));
  for (int i = 0; i < kTokensPerWalk; ++i) {
    const absl::Duration begin = ProcessorTime();
    FillMask(matcher, vocab_size, absl::MakeSpan(mask));
    const std::vector<int32_t> ids = IdsOf(mask);
    if (ids.empty() && i == 0 && !matcher.IsCompleted()) {
      return absl::InvalidArgumentError("no text of the model's tokens has this form");
    }
    if (ids.empty()) return absl::OkStatus();
    if (!matcher.AcceptToken(ids[random() % ids.size()])) {
      return absl::InvalidArgumentError("allows special tokens, which no text holds");
    }
    if (ProcessorTime() - begin > token_limit) {
      return absl::ResourceExhaustedError(
          "to say which tokens may come next takes too long: the form is too ambiguous");
    }
  }
  return absl::OkStatus();
}

// What XGrammar throws, as a status.
template <typename Function>
auto Guard(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("takes too much memory to work out");
  } catch (const std::length_error&) {
    return absl::ResourceExhaustedError("takes too much memory to work out");
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(Clean(e.what()));
  }
}

}  // namespace

xgrammar::TokenizerInfo MakeTokenizerInfo(const Vocabulary& vocabulary) {
  // Stop tokens are the request's, so none is named here.
  return xgrammar::TokenizerInfo(vocabulary, xgrammar::VocabType::RAW,
                                 static_cast<int>(vocabulary.size()), std::vector<int32_t>{});
}

absl::StatusOr<xgrammar::CompiledGrammar> Compile(const GrammarText& grammar,
                                                  const xgrammar::TokenizerInfo& vocabulary) {
  std::string first_warning;
  warning = &first_warning;
  auto compiled = Guard([&]() -> absl::StatusOr<xgrammar::CompiledGrammar> {
    return CompileOrThrow(grammar, vocabulary);
  });
  warning = nullptr;
  if (!compiled.ok()) return compiled;
  if (!first_warning.empty()) return absl::InvalidArgumentError(Clean(first_warning));
  if (grammar.syntax == GrammarText::Syntax::kJsonSchema) {
    const absl::Status status = CheckSchemaKeywords(grammar.text);
    if (!status.ok()) return absl::InvalidArgumentError(Clean(std::string(status.message())));
  }
  return compiled;
}

absl::Status TryOut(const xgrammar::CompiledGrammar& grammar, absl::Duration token_limit) {
  return Guard([&] {
    std::mt19937 random(20240613);
    for (int i = 0; i < kWalks; ++i) {
      const absl::Status status = Walk(grammar, token_limit, random);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  });
}

}  // namespace adamoe

// XGrammar is built to hand its log to these (XGRAMMAR_LOG_CUSTOMIZE).
namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string&, int, const std::string& message) {
  throw std::runtime_error(message);
}

void LogMessageImpl(const std::string&, int, int level, const std::string& message) {
  constexpr int kWarning = 2;
  if (level != kWarning || adamoe::warning == nullptr || !adamoe::warning->empty()) return;
  *adamoe::warning = message;
}

}  // namespace xgrammar
