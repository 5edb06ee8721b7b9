// Hugging Face's decoders map a list of tokens to a list of tokens, whose concatenation is the
// text. Here every step takes the tokens one at a time and keeps only what a later token may still
// change:
//   ByteFallback  a run of byte tokens, since one bad byte turns the whole run into U+FFFD;
//   ByteLevel     the bytes of a character that is not complete;
//   Strip, fused  the last characters that would be taken off if the text ended here.
// So decoding at once is streaming with everything pushed, and the two cannot differ.
#include "server/tokenizer/text_decoder.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/normalizer.h"
#include "server/tokenizer/pre_tokenizer.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

constexpr int32_t kMaxStrip = 1 << 20;
constexpr size_t kMaxSteps = 64;  // a stream hands its tokens from step to step by recursion

// The byte that "<0xNN>" names, or -1.
int ByteOf(absl::string_view token) {
  if (token.size() != 6 || !absl::StartsWith(token, "<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return -1;
    byte = byte * 16 + (absl::ascii_isdigit(static_cast<unsigned char>(c))
                            ? c - '0'
                            : absl::ascii_tolower(static_cast<unsigned char>(c)) - 'a' + 10);
  }
  return byte;
}

// The bytes a token of a byte-level vocabulary stands for; one with a foreign character stands for
// itself.
std::string FromByteLevel(const std::string& token) {
  static const auto* const bytes = [] {
    auto* map = new absl::flat_hash_map<std::string, char>;
    for (size_t i = 0; i < 256; ++i) map->emplace(ByteLevelCharacters()[i], static_cast<char>(i));
    return map;
  }();
  std::string out;
  for (absl::string_view rest = token; !rest.empty();) {
    const absl::string_view character = rest.substr(0, Utf8Length(rest[0]));
    const auto found = bytes->find(character);
    if (found == bytes->end()) return token;
    out.push_back(found->second);
    rest.remove_prefix(character.size());
  }
  return out;
}

// `token` without up to `start` characters `content` in front and `stop` at its end.
std::string Strip(absl::string_view token, absl::string_view content, int32_t start, int32_t stop) {
  for (int32_t i = 0; i < start && absl::StartsWith(token, content); ++i) {
    token.remove_prefix(content.size());
  }
  for (int32_t i = 0; i < stop && absl::EndsWith(token, content); ++i) {
    token.remove_suffix(content.size());
  }
  return std::string(token);
}

absl::StatusOr<std::string> OneCharacter(const JsonField& field) {
  ASSIGN_OR_RETURN(std::string text, field.String());
  if (text.empty() || Utf8Length(text[0]) != text.size()) {
    return field.Error("expected one character");
  }
  return text;
}

}  // namespace

absl::StatusOr<TextDecoder> TextDecoder::Parse(const JsonField& field) {
  TextDecoder decoder;
  if (field.IsNull()) {
    decoder.steps_.emplace_back().kind = Kind::kJoin;
  } else {
    RETURN_IF_ERROR(decoder.AddSteps(field));
  }
  return decoder;
}

bool TextDecoder::TokensAreFused() const {
  for (const Step& step : steps_) {
    if (step.kind == Kind::kFuse || step.kind == Kind::kByteLevel) return true;
  }
  return false;
}

absl::Status TextDecoder::AddSteps(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string type, field.Type());
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(const std::vector<JsonField> parts, field["decoders"].Array());
    for (const JsonField& part : parts) RETURN_IF_ERROR(AddSteps(part));
    return absl::OkStatus();
  }
  if (TokensAreFused() && type != "Fuse" && type != "Strip") {
    return field.Error(absl::StrCat("\"", type, "\" after tokens are fused is not supported"));
  }
  return AddStep(type, field);
}

absl::Status TextDecoder::AddStep(const std::string& type, const JsonField& field) {
  if (steps_.size() == kMaxSteps) {
    return field.Error(absl::StrCat("more than ", kMaxSteps, " steps"));
  }
  Step step;
  if (type == "Fuse") {
    if (TokensAreFused()) return absl::OkStatus();
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    ASSIGN_OR_RETURN(step.pattern, ParsePattern(field["pattern"]));
    ASSIGN_OR_RETURN(step.content, field["content"].String());
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.fused = TokensAreFused();
    ASSIGN_OR_RETURN(step.content, OneCharacter(field["content"]));
    ASSIGN_OR_RETURN(step.start, field["start"].Index(kMaxStrip));
    ASSIGN_OR_RETURN(step.stop, field["stop"].Index(kMaxStrip));
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    ASSIGN_OR_RETURN(std::string mark, OneCharacter(field["replacement"]));
    step.pattern = Regex::Literal(std::move(mark));
    step.content = " ";
    ASSIGN_OR_RETURN(step.strips_first, PrependsMetaspace(field));
  } else {
    return field.Error(absl::StrCat("unknown decoder \"", type, "\""));
  }
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

std::string TextDecoder::Bytes(const std::string& token) const {
  std::string bytes = token;
  for (const Step& step : steps_) {
    if (step.kind == Kind::kReplace || step.kind == Kind::kMetaspace) {
      bytes = ReplaceAll(step.pattern, step.content, bytes).value_or(bytes);
    } else if (step.kind == Kind::kStrip && !step.fused) {
      bytes = Strip(bytes, step.content, step.start, step.stop);
    } else if (step.kind == Kind::kByteLevel) {
      bytes = FromByteLevel(bytes);
    } else if (step.kind == Kind::kByteFallback && ByteOf(bytes) >= 0) {
      return std::string(1, static_cast<char>(ByteOf(bytes)));
    }
  }
  return bytes;
}

bool TextDecoder::strips_leading_space() const {
  for (const Step& step : steps_) {
    if (step.strips_first) return true;
    if (step.kind == Kind::kStrip && step.fused && step.start > 0 && step.content == " ")
      return true;
  }
  return false;
}

TextStream::TextStream(const TextDecoder* decoder, bool follows_text)
    : decoder_(decoder), states_(decoder->steps_.size()) {
  for (size_t i = 0; i < states_.size(); ++i) {
    states_[i].has_begun = follows_text;
    if (follows_text) states_[i].num_stripped = decoder->steps_[i].start;
  }
}

void TextStream::Push(const std::string& token, std::string* text) { Feed(0, token, text); }

void TextStream::Finish(std::string* text) {
  for (size_t i = 0; i < states_.size(); ++i) FinishStep(i, text);
}

void TextStream::Feed(size_t index, std::string token, std::string* text) {
  if (index == states_.size()) {
    *text += token;
    return;
  }
  const Step& step = decoder_->steps_[index];
  State& state = states_[index];
  const bool is_first = !std::exchange(state.has_begun, true);
  switch (step.kind) {
    case TextDecoder::Kind::kFuse:
      return Feed(index + 1, std::move(token), text);
    case TextDecoder::Kind::kJoin:
      return Feed(index + 1, is_first ? token : absl::StrCat(" ", token), text);
    case TextDecoder::Kind::kReplace:
    case TextDecoder::Kind::kMetaspace: {
      const std::string& content = is_first && step.strips_first ? std::string() : step.content;
      return Feed(index + 1, ReplaceAll(step.pattern, content, token).value_or(token), text);
    }
    case TextDecoder::Kind::kByteFallback:
      if (const int byte = ByteOf(token); byte >= 0) {
        state.bytes.push_back(static_cast<char>(byte));
        return;
      }
      EndByteRun(index, text);
      return Feed(index + 1, std::move(token), text);
    case TextDecoder::Kind::kByteLevel:
      state.bytes += FromByteLevel(token);
      return FeedBytes(index, text);
    case TextDecoder::Kind::kStrip:
      if (step.fused) return FeedStrip(index, token, text);
      return Feed(index + 1, Strip(token, step.content, step.start, step.stop), text);
  }
}

void TextStream::EndByteRun(size_t index, std::string* text) {
  const std::string run = std::exchange(states_[index].bytes, "");
  if (FindIllFormedUtf8(run) == absl::string_view::npos) {
    if (!run.empty()) Feed(index + 1, run, text);
    return;
  }
  for (size_t i = 0; i < run.size(); ++i) {
    Feed(index + 1, std::string(kReplacementCharacter), text);
  }
}

void TextStream::FeedBytes(size_t index, std::string* text) {
  std::string whole;
  absl::string_view rest = states_[index].bytes;
  while (!rest.empty()) {
    const Utf8Front front = ReadUtf8(rest);
    if (front.kind == Utf8Front::kTruncated) break;
    const bool sound = front.kind == Utf8Front::kCharacter;
    absl::StrAppend(&whole, sound ? rest.substr(0, front.num_bytes) : kReplacementCharacter);
    rest.remove_prefix(front.num_bytes);
  }
  states_[index].bytes = std::string(rest);
  if (!whole.empty()) Feed(index + 1, std::move(whole), text);
}

void TextStream::FeedStrip(size_t index, absl::string_view part, std::string* text) {
  const Step& step = decoder_->steps_[index];
  State& state = states_[index];
  std::string kept;
  while (!part.empty()) {
    const absl::string_view character = part.substr(0, Utf8Length(part[0]));
    part.remove_prefix(character.size());
    const bool matches = character == step.content;
    if (matches && state.num_stripped < step.start) {
      ++state.num_stripped;
    } else if (matches && state.num_held < step.stop) {
      ++state.num_held;
    } else if (matches) {
      kept += step.content;  // the first of those held is certain now
    } else {
      state.num_stripped = step.start;
      for (; state.num_held > 0; --state.num_held) kept += step.content;
      kept.append(character.data(), character.size());
    }
  }
  if (!kept.empty()) Feed(index + 1, std::move(kept), text);
}

void TextStream::FinishStep(size_t index, std::string* text) {
  const TextDecoder::Kind kind = decoder_->steps_[index].kind;
  if (kind == TextDecoder::Kind::kByteFallback) {
    EndByteRun(index, text);
  } else if (kind == TextDecoder::Kind::kByteLevel && !states_[index].bytes.empty()) {
    Feed(index + 1, std::string(kReplacementCharacter), text);
  }
}

}  // namespace adamoe
