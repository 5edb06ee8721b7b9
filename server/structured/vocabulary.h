// What grammars know of the served tokens: the bytes that each stands for.
#ifndef ADAMOE_SERVER_STRUCTURED_VOCABULARY_H_
#define ADAMOE_SERVER_STRUCTURED_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/tokenizer/tokenizer.h"

namespace adamoe {

// [vocab_size of the model]: the bytes of each token in running text, which need not be whole
// characters. Empty for those that no text is made of, which no grammar allows: special tokens, and
// ids that only the model has. Tokens that only the tokenizer has are left out.
using Vocabulary = std::vector<std::string>;

Vocabulary ReadVocabulary(const Tokenizer& tokenizer, int32_t model_vocab_size);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_VOCABULARY_H_
