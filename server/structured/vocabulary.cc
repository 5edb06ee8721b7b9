#include "server/structured/vocabulary.h"

#include <algorithm>

namespace adamoe {

Vocabulary ReadVocabulary(const Tokenizer& tokenizer, int32_t model_vocab_size) {
  Vocabulary vocabulary(model_vocab_size);
  const int32_t num_known = std::min(model_vocab_size, tokenizer.vocab_size());
  for (int32_t id = 0; id < num_known; ++id) {
    if (!tokenizer.IsSpecial(id)) vocabulary[id] = tokenizer.TokenBytes(id);
  }
  return vocabulary;
}

}  // namespace adamoe
