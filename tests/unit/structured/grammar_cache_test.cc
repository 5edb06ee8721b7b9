#include "server/structured/grammar_cache.h"

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/structured/grammars.h"

namespace adamoe {
namespace {

constexpr size_t kRoomy = size_t{1} << 30;

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/task/", pid, "/children"));
  std::vector<pid_t> children;
  for (pid_t child; in >> child;) children.push_back(child);
  EXPECT_FALSE(children.empty());
  return children;
}

std::shared_ptr<Grammar> Make(Grammars* grammars) {
  const auto grammar = grammars->Compile(Regex("ab"));
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  return *grammar;
}

TEST(GrammarCacheTest, KeepsWhatWasUsedLast) {
  Grammars grammars;
  GrammarCache cache(kRoomy, 2);
  cache.Insert("a", Make(&grammars));
  cache.Insert("b", Make(&grammars));
  EXPECT_NE(cache.Find("a"), nullptr);
  cache.Insert("c", Make(&grammars));
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_NE(cache.Find("c"), nullptr);
  EXPECT_EQ(cache.num_grammars(), 2u);
}

TEST(GrammarCacheTest, BytesBoundWhatIsUnused) {
  Grammars grammars;
  GrammarCache cache(2 * GrammarCache::kProcessBytes + 100000, 100);
  for (const char* key : {"a", "b", "c", "d"}) cache.Insert(key, Make(&grammars));
  EXPECT_EQ(cache.num_grammars(), 2u);
  EXPECT_LE(cache.num_bytes(), 2 * GrammarCache::kProcessBytes + 100000);
  GrammarCache none(0, 100);
  none.Insert("a", Make(&grammars));
  EXPECT_EQ(none.num_grammars(), 0u);
  EXPECT_EQ(none.num_bytes(), 0u);
}

TEST(GrammarCacheTest, WhatIsInUseStays) {
  Grammars grammars;
  GrammarCache cache(0, 2);
  const auto a = Make(&grammars);
  cache.Insert("a", a);
  EXPECT_EQ(cache.Find("a"), a);
  EXPECT_TRUE(cache.MakeRoom());
  const auto b = Make(&grammars);
  cache.Insert("b", b);
  EXPECT_FALSE(cache.MakeRoom());
  EXPECT_EQ(cache.num_grammars(), 2u);
}

TEST(GrammarCacheTest, ADeadProcessIsNotFound) {
  Grammars grammars;
  GrammarCache cache(kRoomy, 2);
  const auto grammar = Make(&grammars);
  cache.Insert("a", grammar);
  const auto matcher = *grammar->NewMatcher({kEnd});
  ASSERT_TRUE(matcher->Allowed().ok());
  for (const pid_t pid : ChildrenOf(grammars.fork_server->pid())) kill(pid, SIGKILL);
  matcher->Append(1 + 'a');
  EXPECT_TRUE(absl::IsResourceExhausted(matcher->Allowed().status()));
  EXPECT_FALSE(grammar->alive());
  EXPECT_EQ(cache.Find("a"), nullptr);
  EXPECT_EQ(cache.num_grammars(), 0u);
}

}  // namespace
}  // namespace adamoe
