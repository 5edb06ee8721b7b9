// The pre-tokenizer of a tokenizer.json: cuts a normalized text into the words that the model
// merges within. Understands Sequence, ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace
// and WhitespaceSplit. Immutable; thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_PRE_TOKENIZER_H_
#define ADAMOE_SERVER_TOKENIZER_PRE_TOKENIZER_H_

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/tokenizer/json_field.h"
#include "server/tokenizer/regex.h"

namespace adamoe {

struct Word {
  std::string text;
  // The word starts where the whole text does: Metaspace may put its prefix there only.
  bool starts_text;
};

class PreTokenizer {
 public:
  // A null field is the pre-tokenizer that leaves the text whole. INVALID_ARGUMENT names what is
  // not understood.
  static absl::StatusOr<PreTokenizer> Parse(const JsonField& field);

  // The words of a stretch of normalized text, none empty. RESOURCE_EXHAUSTED where they add up to
  // more than kMaxTextBytes.
  absl::StatusOr<std::vector<Word>> Apply(Word text) const;

 private:
  // Appends the parts of one word.
  using Step = std::function<absl::Status(Word word, std::vector<Word>* parts)>;

  absl::Status AddSteps(const JsonField& field);
  absl::Status AddSplit(const JsonField& field);
  absl::Status AddMetaspace(const JsonField& field);
  absl::Status AddByteLevel(const JsonField& field);
  absl::Status AddCharacterClass(const std::string& type, const JsonField& field);

  std::vector<Step> steps_;
};

// Whether a Metaspace (pre-tokenizer or decoder) puts its mark before a text.
absl::StatusOr<bool> PrependsMetaspace(const JsonField& field);

// The printable character, as UTF-8, that byte-level vocabularies write for each byte (GPT-2's
// table).
const std::array<std::string, 256>& ByteLevelCharacters();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_PRE_TOKENIZER_H_
