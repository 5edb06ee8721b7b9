// Turns a stream of token ids into a stream of text of whole UTF-8 characters: bytes of a character that is not complete
// yet wait for the next token. The pieces put together equal Tokenizer::Decode of all ids. Thread-compatible; the
// tokenizer must outlive it.
#ifndef ADAMOE_SERVER_TOKENIZER_INCREMENTAL_DECODER_H_
#define ADAMOE_SERVER_TOKENIZER_INCREMENTAL_DECODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/tokenizer/tokenizer.h"

namespace adamoe {

class IncrementalDecoder {
 public:
  // Continues after `prompt`: a generated text's first piece keeps its leading space when there is a prompt before it.
  IncrementalDecoder(const Tokenizer& tokenizer, bool follows_text);

  // The text that `id` completes; may be empty. REQUIRES: id in [0, vocab size of the model); ids the tokenizer does not
  // know add nothing.
  std::string Push(int32_t id);
  // What is still held back, as U+FFFD; call once, at the end.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  bool at_start_;
  std::string pending_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_INCREMENTAL_DECODER_H_
