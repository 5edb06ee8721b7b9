#include "server/structured/grammar_service.h"

#include <csignal>

#include <atomic>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/unit/structured/grammars.h"

namespace adamoe {
namespace {

using ::testing::HasSubstr;

using Kind = StructuredOutput::Kind;
using Result = absl::StatusOr<std::unique_ptr<TokenMatcher>>;

// A regular expression that takes seconds to work out, and as many different ones as wanted.
std::string Slow(int i) { return Repeat(4000, "[a-z ]?") + std::to_string(i); }

class CountingObserver : public GrammarObserver {
 public:
  void OnGrammarLookup(bool hit) override { ++(hit ? hits : misses); }
  void OnGrammarCompiled(absl::Duration) override { ++compiled; }

  std::atomic<int> hits{0};
  std::atomic<int> misses{0};
  std::atomic<int> compiled{0};
};

struct Service {
  explicit Service(const GrammarService::Options& options = {}) {
    auto fork_server = ForkServer::Start();
    EXPECT_TRUE(fork_server.ok()) << fork_server.status();
    pid = (*fork_server)->pid();
    auto started =
        GrammarService::Start(options, std::move(*fork_server), ByteVocabulary(), &observer);
    EXPECT_TRUE(started.ok()) << started.status();
    service = std::move(*started);
  }

  // What Prepare comes to, waited for.
  Result Prepare(const StructuredOutput& structured) {
    Result result = absl::UnknownError("not called");
    absl::Notification done;
    const absl::Status status = service->Prepare(structured, {kEnd}, [&](Result prepared) {
      result = std::move(prepared);
      done.Notify();
    });
    if (!status.ok()) return status;
    done.WaitForNotification();
    return result;
  }

  CountingObserver observer;
  pid_t pid = 0;
  std::unique_ptr<GrammarService> service;
};

// First, while this process, which grammar processes are forks of, has no memory left over from
// other tests.
TEST(GrammarServiceTest, MemoryIsBounded) {
  GrammarService::Options options;
  options.limits.compile_bytes = 16 << 20;
  options.limits.compile_timeout = absl::Seconds(60);
  Service service(options);
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "ab", {}}).ok());
  std::string properties;
  for (int i = 0; i < 2500; ++i) properties += "\"property" + std::to_string(i) + "\":{},";
  const auto large = service.Prepare(
      {Kind::kJsonSchema, "{\"type\":\"object\",\"properties\":{" + properties + "\"z\":{}}}", {}});
  EXPECT_TRUE(absl::IsResourceExhausted(large.status())) << large.status();
  EXPECT_THAT(std::string(large.status().message()), HasSubstr("memory"));
}

TEST(GrammarServiceTest, MatchersOfEveryKind) {
  Service service;
  for (const StructuredOutput& structured :
       {StructuredOutput{Kind::kJsonObject, "", {}},
        StructuredOutput{Kind::kJsonSchema, R"({"type":"object"})", {}},
        StructuredOutput{Kind::kRegex, R"(\{+)", {}},
        StructuredOutput{Kind::kGrammar, "root ::= \"{\" \"}\"", {}},
        StructuredOutput{Kind::kChoice, "", {"{a", "{b"}}}) {
    const auto matcher = service.Prepare(structured);
    ASSERT_TRUE(matcher.ok()) << matcher.status();
    const auto mask = (*matcher)->Allowed();
    ASSERT_TRUE(mask.ok()) << mask.status();
    EXPECT_TRUE(IsAllowed(*mask, 1 + '{'));
    EXPECT_FALSE(IsAllowed(*mask, 1 + '}'));
    EXPECT_FALSE(IsAllowed(*mask, kEnd));
  }
}

TEST(GrammarServiceTest, EqualFormsAreCompiledOnce) {
  Service service;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(service.Prepare({Kind::kRegex, "ab", {}}).ok());
  EXPECT_EQ(service.observer.misses, 1);
  EXPECT_EQ(service.observer.hits, 2);
  EXPECT_EQ(service.observer.compiled, 1);
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "ac", {}}).ok());
  EXPECT_EQ(service.observer.compiled, 2);
}

TEST(GrammarServiceTest, EqualFormsWaitTogether) {
  GrammarService::Options options;
  options.num_compiling = 1;
  options.limits.compile_timeout = absl::Milliseconds(500);
  Service service(options);
  std::atomic<int> num_done{0};
  std::atomic<int> num_costly{0};
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(service.service
                    ->Prepare({Kind::kRegex, Slow(0), {}}, {},
                              [&](Result result) {
                                num_costly += absl::IsResourceExhausted(result.status());
                                ++num_done;
                              })
                    .ok());
  }
  // Another one comes after it.
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "ab", {}}).ok());
  EXPECT_EQ(num_done, 10);
  EXPECT_EQ(num_costly, 10);
  EXPECT_EQ(service.observer.compiled, 2);
}

TEST(GrammarServiceTest, WhatTakesTooLongIsRefusedAndLeavesRoom) {
  GrammarService::Options options;
  options.limits.compile_timeout = absl::Milliseconds(300);
  Service service(options);
  const absl::Time begin = absl::Now();
  const auto slow = service.Prepare({Kind::kRegex, Slow(0), {}});
  EXPECT_TRUE(absl::IsResourceExhausted(slow.status())) << slow.status();
  EXPECT_THAT(std::string(slow.status().message()), HasSubstr("300ms"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "ab", {}}).ok());
}

TEST(GrammarServiceTest, TooManyThatWaitAreRefused) {
  GrammarService::Options options;
  options.num_compiling = 1;
  options.max_waiting = 3;
  options.limits.compile_timeout = absl::Seconds(1);
  Service service(options);
  std::atomic<int> num_done{0};
  int num_refused = 0;
  for (int i = 0; i < 8; ++i) {
    const absl::Status status =
        service.service->Prepare({Kind::kRegex, Slow(i), {}}, {}, [&](Result) { ++num_done; });
    if (status.ok()) continue;
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    ++num_refused;
  }
  EXPECT_EQ(num_refused, 5);
  service.service.reset();  // answers those that wait
  EXPECT_EQ(num_done, 3);
}

TEST(GrammarServiceTest, GrammarsInUseAreBounded) {
  GrammarService::Options options;
  options.max_grammars = 2;
  Service service(options);
  auto a = service.Prepare({Kind::kRegex, "a", {}});
  const auto b = service.Prepare({Kind::kRegex, "b", {}});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(service.Prepare({Kind::kRegex, "c", {}}).status()));
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "b", {}}).ok());
  a->reset();
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "c", {}}).ok());
}

TEST(GrammarServiceTest, BadFormsSayWhatIsWrong) {
  Service service;
  const struct {
    StructuredOutput structured;
    const char* words;
  } cases[] = {
      {{Kind::kRegex, "(a", {}}, "parenthesis"},
      {{Kind::kRegex, "(?=a)b", {}}, "Lookahead"},
      {{Kind::kRegex, "a^b", {}}, "'^'"},
      {{Kind::kGrammar, "root ::= nobody", {}}, "nobody"},
      {{Kind::kGrammar, "a ::= \"a\"", {}}, "root"},
      {{Kind::kGrammar, "root ::= root", {}}, "no text"},
      {{Kind::kJsonSchema, "{", {}}, "syntax error"},
      {{Kind::kJsonSchema, R"({"type":"wizard"})", {}}, "wizard"},
      {{Kind::kJsonSchema, R"({"$ref":"http://example.com/x"})", {}}, "URI"},
      {{Kind::kJsonSchema, R"({"type":"array","uniqueItems":true})", {}}, "uniqueItems"},
  };
  for (const auto& [structured, words] : cases) {
    const auto result = service.Prepare(structured);
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << structured.text << result.status();
    const std::string message(result.status().message());
    EXPECT_THAT(message, HasSubstr(words)) << structured.text;
    EXPECT_EQ(message.find(".cc"), std::string::npos) << message;
    EXPECT_LT(message.size(), 400u);
  }
}

TEST(GrammarServiceTest, SurvivesItsForkServer) {
  Service service;
  const auto matcher = service.Prepare({Kind::kRegex, "ab", {}});
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  kill(service.pid, SIGKILL);
  const auto other = service.Prepare({Kind::kRegex, "ac", {}});
  EXPECT_FALSE(other.ok());
  (*matcher)->Append(1 + 'a');
  EXPECT_TRUE((*matcher)->Allowed().ok());  // what there is goes on
  EXPECT_TRUE(service.Prepare({Kind::kRegex, "ab", {}}).ok());
}

// The time for which masks hold up whoever asks is bounded at once and altogether.
TEST(GrammarServiceTest, AnAmbiguousGrammarIsGivenUp) {
  Service service;
  const auto matcher =
      service.Prepare({Kind::kGrammar, "root ::= \"x\"{130} s\ns ::= s s s | s s | [a-z]", {}});
  ASSERT_TRUE(matcher.ok()) << matcher.status();
  absl::Status status;
  absl::Duration waited;
  absl::Duration longest;
  int num_tokens = 0;
  for (; num_tokens < 5000 && status.ok(); ++num_tokens) {
    const absl::Time begin = absl::Now();
    status = (*matcher)->Allowed().status();
    const absl::Duration wait = absl::Now() - begin;
    waited += wait;
    longest = std::max(longest, wait);
    if (status.ok()) (*matcher)->Append(1 + (num_tokens < 130 ? 'x' : 'a'));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_GT(num_tokens, 130);
  EXPECT_LT(longest, absl::Seconds(2));
  EXPECT_LT(waited, absl::Seconds(5));
}

}  // namespace
}  // namespace adamoe
