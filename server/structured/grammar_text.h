// A StructuredOutput as one text, which says all there is to say about it. Pure functions.
#ifndef ADAMOE_SERVER_STRUCTURED_GRAMMAR_TEXT_H_
#define ADAMOE_SERVER_STRUCTURED_GRAMMAR_TEXT_H_

#include <string>
#include <vector>

#include "server/request/structured_output.h"

namespace adamoe {

// An EBNF grammar whose rule "root" is one of `choices`, byte for byte.
std::string ChoiceGrammar(const std::vector<std::string>& choices);

// What a compiler is given: a JSON schema, a regular expression or an EBNF grammar. Equal exactly
// where the grammars are the same text.
struct GrammarText {
  enum class Syntax : char { kJsonSchema = 'j', kRegex = 'r', kEbnf = 'e' };

  Syntax syntax = Syntax::kEbnf;
  std::string text;

  std::string Key() const { return static_cast<char>(syntax) + text; }
};

GrammarText ToGrammarText(const StructuredOutput& structured);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_GRAMMAR_TEXT_H_
