// The form that a request wants its output to have. Plain values, which front ends fill and check
// against the limits below; server/structured/ turns them into a TokenMatcher.
#ifndef ADAMOE_SERVER_REQUEST_STRUCTURED_OUTPUT_H_
#define ADAMOE_SERVER_REQUEST_STRUCTURED_OUTPUT_H_

#include <cstddef>
#include <string>
#include <vector>

namespace adamoe {

inline constexpr size_t kMaxGrammarBytes = 64 << 10;  // of `text`, or of all choices together
inline constexpr size_t kMaxChoices = 1024;

struct StructuredOutput {
  enum class Kind {
    kJsonObject,  // any JSON object; without text
    kJsonSchema,  // JSON that is valid under the schema `text`
    kRegex,       // a text that the regular expression `text` matches from end to end
    kGrammar,     // a text of the EBNF grammar `text`, from its rule "root"
    kChoice,      // one of `choices`
  };

  Kind kind = Kind::kJsonObject;
  std::string text;                  // UTF-8, at most kMaxGrammarBytes
  std::vector<std::string> choices;  // UTF-8, none of them empty
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_STRUCTURED_OUTPUT_H_
