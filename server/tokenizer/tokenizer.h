// Text <-> token ids, as the folder's tokenizer.json says (Hugging Face tokenizers' format):
// byte-fallback BPE as in Llama-2 and Mixtral, and byte-level BPE as in GPT-2 and Llama-3.
// Immutable after loading; thread-safe.
//
// The ids are those of Hugging Face's tokenizers, with one exception: text that spells a special
// token never becomes that token unless the caller says so. The file's truncation and padding are
// not followed: a prompt is never cut silently.
#ifndef ADAMOE_SERVER_TOKENIZER_TOKENIZER_H_
#define ADAMOE_SERVER_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tokenizer/text_decoder.h"

namespace adamoe {

struct EncodeOptions {
  // Adds what the tokenizer's post-processor adds (BOS).
  bool add_special_tokens = true;
  // Lets text such as "<s>" become the special token it names. Off for anything a user typed.
  bool parse_special_tokens = false;
};

class Tokenizer {
 public:
  // Reads DIR/tokenizer.json. INVALID_ARGUMENT names the file, the key and what was expected.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& model_dir);
  // The same from the text of a tokenizer.json; `file` names it in errors.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(absl::string_view json,
                                                          const std::string& file);
  virtual ~Tokenizer() = default;

  // `text` must be valid UTF-8 (INVALID_ARGUMENT otherwise). RESOURCE_EXHAUSTED where the file's
  // own pattern takes exponentially many steps to cut the text into words. Takes O(n log n) of the
  // length of the text.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                                      const EncodeOptions& options) const = 0;

  // The text of `ids`, special tokens left out; ill-formed UTF-8 becomes U+FFFD. OUT_OF_RANGE names
  // an id outside the vocabulary.
  virtual absl::StatusOr<std::string> Decode(const std::vector<int32_t>& ids) const = 0;

  // Ids in [0, vocab_size); includes added tokens. The model's own vocabulary may be larger
  // (padding).
  virtual int32_t vocab_size() const = 0;
  // The id of an exact token ("<s>", "[INST]"), or -1.
  virtual int32_t TokenId(absl::string_view token) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;
  // The bytes one token stands for in running text, before the decoder's end-of-text rules; "" for
  // special tokens. Used for TokenInfo texts. Also "" for an id that no token has.
  virtual std::string TokenBytes(int32_t id) const = 0;
  // How token strings become text; with TextToken what IncrementalDecoder is made of.
  virtual const TextDecoder& decoder() const = 0;
  // The token's string as the file has it; null for special tokens and ids that no token has.
  virtual const std::string* TextToken(int32_t id) const = 0;
  // True when decoding drops one leading space of the whole text (SentencePiece's dummy prefix).
  virtual bool strips_leading_space() const = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_TOKENIZER_H_
