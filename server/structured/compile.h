// XGrammar (arXiv 2411.15100), without its exceptions and its log: a grammar text to what masks are
// made from. Used in grammar processes only (grammar_process.h): neither time nor memory nor depth
// of the recursion is bounded here.
#ifndef ADAMOE_SERVER_STRUCTURED_COMPILE_H_
#define ADAMOE_SERVER_STRUCTURED_COMPILE_H_

#include <xgrammar/compiler.h>
#include <xgrammar/tokenizer_info.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/structured/grammar_text.h"
#include "server/structured/vocabulary.h"

namespace adamoe {

xgrammar::TokenizerInfo MakeTokenizerInfo(const Vocabulary& vocabulary);

// INVALID_ARGUMENT says what is wrong with the text; also where XGrammar would leave out what it
// does not know, with a warning or without. RESOURCE_EXHAUSTED when memory runs out.
absl::StatusOr<xgrammar::CompiledGrammar> Compile(const GrammarText& grammar,
                                                  const xgrammar::TokenizerInfo& vocabulary);

// Follows the grammar along some made-up texts. INVALID_ARGUMENT when there is no text that
// the vocabulary's tokens can write; RESOURCE_EXHAUSTED when a token takes more than `token_limit`
// of the processor's time.
absl::Status TryOut(const xgrammar::CompiledGrammar& grammar, absl::Duration token_limit);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_COMPILE_H_
