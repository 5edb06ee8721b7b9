// Turns a stream of token ids into a stream of text of whole UTF-8 characters. What a later token
// can still change waits: the bytes of a character that is not complete yet, and a run of
// byte-fallback tokens until it ends (one bad byte among them turns them all into U+FFFD). The
// pieces put together equal Tokenizer::Decode of all ids. Thread-compatible; the tokenizer must
// outlive it.
//
//   IncrementalDecoder decoder(tokenizer, /*follows_text=*/true);
//   for (int32_t id : generated) Send(decoder.Push(id));
//   Send(decoder.Flush());
#ifndef ADAMOE_SERVER_TOKENIZER_INCREMENTAL_DECODER_H_
#define ADAMOE_SERVER_TOKENIZER_INCREMENTAL_DECODER_H_

#include <cstdint>
#include <string>

#include "server/tokenizer/text_decoder.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

class IncrementalDecoder {
 public:
  // With `follows_text` the ids continue a text (a prompt): the first piece keeps its leading
  // space, so that the pieces equal Decode(prompt + ids) without Decode(prompt).
  IncrementalDecoder(const Tokenizer& tokenizer, bool follows_text)
      : tokenizer_(tokenizer), stream_(&tokenizer.decoder(), follows_text) {}

  // The text that `id` settles; may be empty. Special tokens and ids that the tokenizer does not
  // know add nothing.
  std::string Push(int32_t id);
  // What is still held back, an incomplete character as U+FFFD; call once, at the end.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  TextStream stream_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_INCREMENTAL_DECODER_H_
