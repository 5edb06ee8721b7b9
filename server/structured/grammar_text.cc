#include "server/structured/grammar_text.h"

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

void AppendLiteral(const std::string& text, std::string* grammar) {
  grammar->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(grammar, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppend(grammar, "\\u", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad4));
    } else {
      grammar->push_back(c);
    }
  }
  grammar->push_back('"');
}

}  // namespace

std::string ChoiceGrammar(const std::vector<std::string>& choices) {
  std::string grammar = "root ::= ";
  for (const std::string& choice : choices) {
    if (&choice != &choices.front()) grammar += " | ";
    AppendLiteral(choice, &grammar);
  }
  return grammar;
}

GrammarText ToGrammarText(const StructuredOutput& structured) {
  switch (structured.kind) {
    case StructuredOutput::Kind::kJsonObject:
      return {GrammarText::Syntax::kJsonSchema, R"({"type":"object","additionalProperties":true})"};
    case StructuredOutput::Kind::kJsonSchema:
      return {GrammarText::Syntax::kJsonSchema, structured.text};
    case StructuredOutput::Kind::kRegex:
      return {GrammarText::Syntax::kRegex, structured.text};
    case StructuredOutput::Kind::kGrammar:
      return {GrammarText::Syntax::kEbnf, structured.text};
    case StructuredOutput::Kind::kChoice:
      break;
  }
  return {GrammarText::Syntax::kEbnf, ChoiceGrammar(structured.choices)};
}

}  // namespace adamoe
