#include "server/structured/grammar_text.h"

#include "gtest/gtest.h"

namespace adamoe {
namespace {

TEST(GrammarTextTest, ChoicesAreQuoted) {
  EXPECT_EQ(ChoiceGrammar({"a"}), "root ::= \"a\"");
  EXPECT_EQ(ChoiceGrammar({"a\"b", "c\\d", "e\nf\x01", "é"}),
            "root ::= \"a\\\"b\" | \"c\\\\d\" | \"e\\u000af\\u0001\" | \"é\"");
}

TEST(GrammarTextTest, KeysTellSyntaxesApart) {
  using Kind = StructuredOutput::Kind;
  const GrammarText regex = ToGrammarText({Kind::kRegex, "a", {}});
  const GrammarText grammar = ToGrammarText({Kind::kGrammar, "a", {}});
  const GrammarText schema = ToGrammarText({Kind::kJsonSchema, "a", {}});
  EXPECT_NE(regex.Key(), grammar.Key());
  EXPECT_NE(regex.Key(), schema.Key());
  EXPECT_NE(grammar.Key(), schema.Key());
  EXPECT_EQ(regex.Key(), ToGrammarText({Kind::kRegex, "a", {}}).Key());
  // A choice is the grammar that it is written as.
  EXPECT_EQ(ToGrammarText({Kind::kChoice, "", {"a", "b"}}).Key(),
            ToGrammarText({Kind::kGrammar, "root ::= \"a\" | \"b\"", {}}).Key());
}

}  // namespace
}  // namespace adamoe
