// Masks against an oracle that knows a grammar as the list of its texts: a token may come where
// what is there, with the token behind it, begins one of them.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "server/tokenizer/tokenizer.h"
#include "tests/fakes/tokenizer_file.h"
#include "tests/unit/structured/grammars.h"

namespace adamoe {
namespace {

using ::testing::HasSubstr;

using Texts = std::set<std::string>;

bool BeginsOne(const Texts& texts, const std::string& prefix) {
  const auto found = texts.lower_bound(prefix);
  return found != texts.end() && found->compare(0, prefix.size(), prefix) == 0;
}

// All texts over `alphabet`, up to a length, that the expression matches.
Texts Matches(const std::string& regex, const std::string& alphabet, size_t max_length) {
  const std::regex expression(regex);
  Texts matches;
  std::vector<std::string> texts = {""};
  for (size_t length = 0; length <= max_length; ++length) {
    std::vector<std::string> longer;
    for (const std::string& text : texts) {
      if (std::regex_match(text, expression)) matches.insert(text);
      for (const char c : alphabet) longer.push_back(text + c);
    }
    texts = std::move(longer);
  }
  return matches;
}

struct Case {
  GrammarText grammar;
  Texts texts;
};

// Walks through the grammar at random, and compares every bit of every mask on the way. Returns the
// number of masks.
int CompareWalk(const Case& the_case, const Vocabulary& vocabulary,
                const std::vector<int32_t>& stops, Grammar* grammar, std::mt19937* random) {
  auto matcher = grammar->NewMatcher(stops);
  EXPECT_TRUE(matcher.ok()) << matcher.status();
  std::string prefix;
  for (int num_masks = 1;; ++num_masks) {
    const auto mask = (*matcher)->Allowed();
    EXPECT_TRUE(mask.ok()) << mask.status();
    if (!mask.ok()) return num_masks;
    std::vector<int32_t> next;
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.size()); ++id) {
      const bool is_stop = std::find(stops.begin(), stops.end(), id) != stops.end();
      const bool expected =
          is_stop ? the_case.texts.count(prefix) > 0
                  : !vocabulary[id].empty() && BeginsOne(the_case.texts, prefix + vocabulary[id]);
      EXPECT_EQ(IsAllowed(*mask, id), expected)
          << the_case.grammar.text << " after '" << prefix << "': token " << id << " '"
          << vocabulary[id] << "'";
      if (expected && !is_stop) next.push_back(id);
    }
    for (size_t id = vocabulary.size(); id < mask->size() * 32; ++id) {
      EXPECT_FALSE(IsAllowed(*mask, static_cast<int32_t>(id))) << "behind the vocabulary";
    }
    if (next.empty() || testing::Test::HasFailure()) return num_masks;
    const int32_t chosen = next[(*random)() % next.size()];
    prefix += vocabulary[chosen];
    (*matcher)->Append(chosen);
  }
}

void Compare(const std::vector<Case>& cases, const Vocabulary& vocabulary,
             const std::vector<int32_t>& stops) {
  Grammars grammars(vocabulary);
  std::mt19937 random(7);
  for (const Case& the_case : cases) {
    ASSERT_FALSE(the_case.texts.empty());
    const auto grammar = grammars.Compile(the_case.grammar);
    ASSERT_TRUE(grammar.ok()) << the_case.grammar.text << ": " << grammar.status();
    int num_masks = 0;
    for (int walk = 0; walk < 20; ++walk) {
      num_masks += CompareWalk(the_case, vocabulary, stops, grammar->get(), &random);
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_GT(num_masks, 20) << the_case.grammar.text;
  }
}

const std::vector<std::string>& Pieces() {
  static const std::vector<std::string> pieces = {
      "ab", "abc", "abcd", "ba",  "bc",  "cd",  "dd", "ddd", "aa",       "aab", "b",
      "a",  "bca", "acb",  "bcd", "abb", "cab", "  ", "",    "\xc3\xa9", "1",   "-1",
      "12", "20",  "\"a",  "{\"", "\":", "},",  "[1", "1,",  " 1",       "true"};
  return pieces;
}

TEST(MaskTest, RegularExpressions) {
  std::vector<Case> cases;
  for (const std::string regex : {"(ab|a)(bc|c)?d{0,2}", "[ab]{2,4}c?", "a(b|cd){0,3}d", "a?b?c?d?",
                                  "(a|ab)(c|bcd)", "[^a]b|abcd", "(abc|ab?)(a|b)*"}) {
    if (regex.find('^') != std::string::npos || regex.find('*') != std::string::npos) continue;
    cases.push_back({Regex(regex), Matches(regex, "abcd", 7)});
  }
  Compare(cases, ByteVocabulary(Pieces()), {kEnd});
}

TEST(MaskTest, Grammars) {
  Compare({{Ebnf("root ::= x d? d?\nx ::= \"ab\" y? | \"a\" y?\ny ::= \"bc\" | \"c\"\nd ::= \"d\""),
            Matches("(ab|a)(bc|c)?d{0,2}", "abcd", 7)},
           {Ebnf("root ::= pair{1,3}\npair ::= \"a\" [bc] | \"d\""),
            Matches("(a[bc]|d){1,3}", "abcd", 6)}},
          ByteVocabulary(Pieces()), {kEnd});
}

TEST(MaskTest, JsonSchemas) {
  Texts numbers;
  for (int i = -13; i <= 21; ++i) numbers.insert(std::to_string(i));
  Compare(
      {{Schema(R"({"type":"integer","minimum":-13,"maximum":21})"), numbers},
       {Schema(R"({"enum":["a","ab",1,true,null]})"), {"\"a\"", "\"ab\"", "1", "true", "null"}}},
      ByteVocabulary(Pieces()), {kEnd});
}

// Tokens that are part of a character, quotes, backslashes and line ends.
TEST(MaskTest, Choices) {
  const std::vector<std::string> choices = {"é",    "ée",   "\"a\"",   "a\\n", "a\nb",
                                            "日本", "日曜", "a\tb",    "[x]",  "\x7f",
                                            "ab",   "abcd", "\\u00e9", "a'b?", "\x01"};
  Compare(
      {{Ebnf(ChoiceGrammar(choices)), Texts(choices.begin(), choices.end())}},
      ByteVocabulary({"\xe6\x97", "\xa5\xe6", "日", "本", "a\n", "ab", "\\n", "é", "ée", "\"a"}),
      {kEnd});
}

// A request's stop tokens need not be the vocabulary's empty ones; several may be.
TEST(MaskTest, StopTokensThatAreText) {
  const Vocabulary vocabulary = ByteVocabulary(Pieces());
  const auto d = static_cast<int32_t>(1 + 'd');
  // "d" ends the output, so it is not part of it.
  Compare({{Regex("[abc]{1,3}"), Matches("[abc]{1,3}", "abc", 3)}}, vocabulary, {kEnd, d, kEnd});
}

TEST(MaskTest, WithoutStopTokensACompleteOutputAllowsNothing) {
  Grammars grammars;
  const auto matcher = grammars.Matcher(Regex("ab"), {});
  for (const char c : std::string("ab")) {
    const auto mask = matcher->Allowed();
    ASSERT_TRUE(mask.ok()) << mask.status();
    EXPECT_TRUE(IsAllowed(*mask, 1 + c));
    matcher->Append(1 + c);
  }
  const auto mask = matcher->Allowed();
  ASSERT_TRUE(mask.ok()) << mask.status();
  for (const uint32_t word : *mask) EXPECT_EQ(word, 0u);
}

TEST(MaskTest, MatchersOfOneGrammarDoNotMeet) {
  Grammars grammars;
  const auto grammar = grammars.Compile(Regex("(a|b)c"));
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  std::vector<std::unique_ptr<TokenMatcher>> matchers;
  for (int i = 0; i < 100; ++i) matchers.push_back(*(*grammar)->NewMatcher({}));
  for (size_t i = 0; i < matchers.size(); i += 2) matchers[i]->Append(1 + 'a');
  // Slots of matchers that are gone, with answers under way, go to others.
  for (size_t i = 0; i < matchers.size(); i += 4) {
    matchers[i].reset();
    matchers[i] = *(*grammar)->NewMatcher({});
  }
  for (size_t i = 0; i < matchers.size(); ++i) {
    const auto mask = matchers[i]->Allowed();
    ASSERT_TRUE(mask.ok()) << mask.status();
    const bool advanced = i % 2 == 0 && i % 4 != 0;
    EXPECT_EQ(IsAllowed(*mask, 1 + 'c'), advanced) << i;
    EXPECT_EQ(IsAllowed(*mask, 1 + 'a'), !advanced) << i;
  }
}

TEST(MaskTest, TokensOfATokenizerAndIdsOfTheModelAlone) {
  const auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const Vocabulary vocabulary = ReadVocabulary(**tokenizer, 420);
  ASSERT_EQ(vocabulary.size(), 420u);
  EXPECT_EQ(vocabulary[2], "");             // </s>
  EXPECT_EQ(vocabulary[3 + 0xe6], "\xe6");  // a byte token
  EXPECT_EQ(vocabulary[419], "");           // padding of the model's
  EXPECT_EQ(ReadVocabulary(**tokenizer, 300).size(), 300u);
  Grammars grammars(vocabulary);
  const auto matcher = grammars.Matcher(Regex("[^x]+"), {2});
  const auto mask = matcher->Allowed();
  ASSERT_TRUE(mask.ok()) << mask.status();
  for (int32_t id = 0; id < 420; ++id) {
    if (!vocabulary[id].empty()) continue;
    EXPECT_FALSE(IsAllowed(*mask, id)) << id;
  }
  EXPECT_TRUE(IsAllowed(*mask, 3 + 'y'));
}

TEST(MaskTest, ATextThatCannotGoOnIsTheFormsFault) {
  Grammars grammars;
  const auto grammar = grammars.Compile(Ebnf("root ::= \"a\" x | \"b\"\nx ::= x \"c\""));
  if (!grammar.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(grammar.status())) << grammar.status();
    return;
  }
  auto matcher = *(*grammar)->NewMatcher({kEnd});
  const auto first = matcher->Allowed();
  ASSERT_TRUE(first.ok()) << first.status();
  if (!IsAllowed(*first, 1 + 'a')) return;
  matcher->Append(1 + 'a');
  const auto second = matcher->Allowed();
  EXPECT_TRUE(absl::IsInvalidArgument(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("not complete"));
}

}  // namespace
}  // namespace adamoe
