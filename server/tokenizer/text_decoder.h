// The decoder of a tokenizer.json as a stream: tokens go in, text comes out as soon as no later
// token can change it. Understands Sequence, Replace, ByteFallback, Fuse, Strip, ByteLevel and
// Metaspace.
#ifndef ADAMOE_SERVER_TOKENIZER_TEXT_DECODER_H_
#define ADAMOE_SERVER_TOKENIZER_TEXT_DECODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tokenizer/json_field.h"
#include "server/tokenizer/regex.h"

namespace adamoe {

// What is done to a text, one after another. Immutable; thread-safe.
class TextDecoder {
 public:
  // A null field joins tokens with spaces. INVALID_ARGUMENT names what is not understood.
  static absl::StatusOr<TextDecoder> Parse(const JsonField& field);

  // The bytes that `token` stands for inside a text: not its first token, and before anything is
  // done to the whole.
  std::string Bytes(const std::string& token) const;
  // True where the first token loses a leading space.
  bool strips_leading_space() const;

 private:
  friend class TextStream;

  enum class Kind { kJoin, kReplace, kByteFallback, kFuse, kStrip, kByteLevel, kMetaspace };
  struct Step {
    Kind kind = Kind::kFuse;
    Regex pattern = Regex::Literal(" ");  // kReplace, kMetaspace
    std::string content;        // kReplace: in place of matches; kStrip: the character to take off
    int32_t start = 0;          // kStrip: how many at most, in front
    int32_t stop = 0;           // and at the end
    bool strips_first = false;  // kMetaspace: drops the marks of the first token
    bool fused = false;         // kStrip: all tokens came together before
  };

  absl::Status AddSteps(const JsonField& field);
  absl::Status AddStep(const std::string& type, const JsonField& field);
  bool TokensAreFused() const;

  std::vector<Step> steps_;
};

// One text being decoded. The decoder must outlive it. Thread-compatible.
class TextStream {
 public:
  // With `follows_text` the tokens continue a text: what is done to the first token of one is not
  // done.
  TextStream(const TextDecoder* decoder, bool follows_text);

  // Appends to *text what is settled by one more token: whole characters.
  void Push(const std::string& token, std::string* text);
  // The rest; ill-formed UTF-8 becomes U+FFFD. The last call.
  void Finish(std::string* text);

 private:
  using Step = TextDecoder::Step;
  struct State {
    bool has_begun = false;  // a token came before
    std::string bytes;       // kByteFallback: a run of bytes; kByteLevel: a character's first bytes
    int32_t num_stripped = 0;  // kStrip, fused
    int32_t num_held = 0;      // kStrip, fused: characters that may yet be the last
  };

  // Hands a token (once fused: a part of one) to step `index` and what it makes of it to the next.
  void Feed(size_t index, std::string token, std::string* text);
  void FinishStep(size_t index, std::string* text);
  void EndByteRun(size_t index, std::string* text);
  void FeedBytes(size_t index, std::string* text);
  void FeedStrip(size_t index, absl::string_view part, std::string* text);

  const TextDecoder* decoder_;
  std::vector<State> states_;  // by step
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_TEXT_DECODER_H_
