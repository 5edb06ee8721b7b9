#include "server/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/normalizer.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What becomes of the matches of a Split.
enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

absl::StatusOr<Behavior> ParseBehavior(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string name, field.String());
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return field.Error(absl::StrCat("unknown behavior \"", name, "\""));
}

// Whether two neighbouring spans stay one word.
bool Joined(const TextSpan& left, const TextSpan& right, Behavior behavior) {
  switch (behavior) {
    case Behavior::kMergedWithPrevious:
      return !left.is_match && right.is_match;
    case Behavior::kMergedWithNext:
      return left.is_match && !right.is_match;
    case Behavior::kContiguous:
      return left.is_match == right.is_match;
    default:
      return false;
  }
}

void CutAt(const std::vector<TextSpan>& spans, Behavior behavior, const Word& word,
           std::vector<Word>* parts) {
  for (size_t i = 0; i < spans.size();) {
    const size_t first = i++;
    while (i < spans.size() && Joined(spans[i - 1], spans[i], behavior)) ++i;
    if (behavior == Behavior::kRemoved && spans[first].is_match) continue;
    const size_t begin = spans[first].begin;
    if (begin == spans[i - 1].end) continue;
    parts->push_back(
        {word.text.substr(begin, spans[i - 1].end - begin), word.starts_text && begin == 0});
  }
}

using CharacterClass = bool (*)(uint32_t code_point);

// Every character of the class is a match of its own.
std::vector<TextSpan> SplitAtCharacters(const std::string& text, CharacterClass is_match) {
  std::vector<TextSpan> spans;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Front front = ReadUtf8(absl::string_view(text).substr(at));
    const size_t next = at + front.num_bytes;
    if (is_match(front.code_point)) {
      AddSpan(done, at, false, &spans);
      AddSpan(at, next, true, &spans);
      done = next;
    }
    at = next;
  }
  AddSpan(done, text.size(), false, &spans);
  return spans;
}

std::string ToByteLevel(const std::string& text) {
  const auto& characters = ByteLevelCharacters();
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (const char c : text) out += characters[static_cast<uint8_t>(c)];
  return out;
}

enum class PrependScheme { kAlways, kFirst, kNever };

absl::StatusOr<PrependScheme> ParsePrependScheme(const JsonField& metaspace) {
  const JsonField field = metaspace["prepend_scheme"];
  ASSIGN_OR_RETURN(const bool add_prefix_space, metaspace["add_prefix_space"].Bool(true));
  if (field.IsNull()) return add_prefix_space ? PrependScheme::kAlways : PrependScheme::kNever;
  ASSIGN_OR_RETURN(const std::string name, field.String());
  if (name == "never") return PrependScheme::kNever;
  if (!add_prefix_space) return field.Error("contradicts add_prefix_space");
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  return field.Error(absl::StrCat("unknown scheme \"", name, "\""));
}

}  // namespace

absl::StatusOr<bool> PrependsMetaspace(const JsonField& field) {
  ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(field));
  return scheme != PrependScheme::kNever;
}

const std::array<std::string, 256>& ByteLevelCharacters() {
  static const auto* const table = [] {
    auto* characters = new std::array<std::string, 256>;
    uint32_t next_stand_in = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      AppendUtf8(printable ? byte : next_stand_in++, &(*characters)[byte]);
    }
    return characters;
  }();
  return *table;
}

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const JsonField& field) {
  PreTokenizer pre_tokenizer;
  if (!field.IsNull()) RETURN_IF_ERROR(pre_tokenizer.AddSteps(field));
  return pre_tokenizer;
}

absl::Status PreTokenizer::AddSteps(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string type, field.Type());
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(const std::vector<JsonField> parts, field["pretokenizers"].Array());
    for (const JsonField& part : parts) RETURN_IF_ERROR(AddSteps(part));
    return absl::OkStatus();
  }
  if (type == "Split") return AddSplit(field);
  if (type == "Metaspace") return AddMetaspace(field);
  if (type == "ByteLevel") return AddByteLevel(field);
  return AddCharacterClass(type, field);
}

absl::Status PreTokenizer::AddSplit(const JsonField& field) {
  ASSIGN_OR_RETURN(Regex pattern, ParsePattern(field["pattern"]));
  ASSIGN_OR_RETURN(const Behavior behavior, ParseBehavior(field["behavior"]));
  ASSIGN_OR_RETURN(const bool invert, field["invert"].Bool(false));
  steps_.push_back(
      [pattern, behavior, invert](Word word, std::vector<Word>* parts) -> absl::Status {
        std::vector<TextSpan> spans;
        RETURN_IF_ERROR(pattern.Split(word.text, &spans));
        for (TextSpan& span : spans) span.is_match ^= invert;
        CutAt(spans, behavior, word, parts);
        return absl::OkStatus();
      });
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddMetaspace(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string mark, field["replacement"].String());
  if (mark.empty() || Utf8Length(mark[0]) != mark.size()) {
    return field["replacement"].Error("expected one character");
  }
  ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(field));
  ASSIGN_OR_RETURN(const bool split, field["split"].Bool(true));
  const Regex pattern = Regex::Literal(mark);
  steps_.push_back([=](Word word, std::vector<Word>* parts) -> absl::Status {
    word.text = absl::StrReplaceAll(word.text, {{" ", mark}});
    const bool prepend =
        scheme == PrependScheme::kAlways || (scheme == PrependScheme::kFirst && word.starts_text);
    if (prepend && !absl::StartsWith(word.text, mark)) word.text.insert(0, mark);
    if (!split) {
      parts->push_back(std::move(word));
      return absl::OkStatus();
    }
    std::vector<TextSpan> spans;
    RETURN_IF_ERROR(pattern.Split(word.text, &spans));
    CutAt(spans, Behavior::kMergedWithNext, word, parts);
    return absl::OkStatus();
  });
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddByteLevel(const JsonField& field) {
  ASSIGN_OR_RETURN(const bool add_prefix_space, field["add_prefix_space"].Bool());
  ASSIGN_OR_RETURN(const bool use_regex, field["use_regex"].Bool(true));
  if (add_prefix_space) {
    steps_.push_back([](Word word, std::vector<Word>* parts) {
      if (word.text[0] != ' ') word.text.insert(0, " ");
      parts->push_back(std::move(word));
      return absl::OkStatus();
    });
  }
  if (use_regex) {
    ASSIGN_OR_RETURN(Regex pattern, Regex::Compile(kGpt2Pattern));
    steps_.push_back([pattern](Word word, std::vector<Word>* parts) -> absl::Status {
      std::vector<TextSpan> spans;
      RETURN_IF_ERROR(pattern.Split(word.text, &spans));
      CutAt(spans, Behavior::kIsolated, word, parts);
      return absl::OkStatus();
    });
  }
  steps_.push_back([](Word word, std::vector<Word>* parts) {
    parts->push_back({ToByteLevel(word.text), word.starts_text});
    return absl::OkStatus();
  });
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddCharacterClass(const std::string& type, const JsonField& field) {
  CharacterClass is_match = nullptr;
  Behavior behavior = Behavior::kRemoved;
  if (type == "Digits") {
    ASSIGN_OR_RETURN(const bool individual, field["individual_digits"].Bool(false));
    is_match = IsNumber;
    behavior = individual ? Behavior::kIsolated : Behavior::kContiguous;
  } else if (type == "Punctuation") {
    is_match = IsPunctuation;
    behavior = Behavior::kIsolated;
    if (!field["behavior"].IsNull()) {
      ASSIGN_OR_RETURN(behavior, ParseBehavior(field["behavior"]));
    }
  } else if (type == "WhitespaceSplit" || type == "Whitespace") {
    is_match = IsWhitespace;
  } else {
    return field.Error(absl::StrCat("unknown pre-tokenizer \"", type, "\""));
  }
  steps_.push_back([is_match, behavior](Word word, std::vector<Word>* parts) {
    CutAt(SplitAtCharacters(word.text, is_match), behavior, word, parts);
    return absl::OkStatus();
  });
  if (type == "Whitespace") {  // besides, words and signs apart
    steps_.push_back([](Word word, std::vector<Word>* parts) {
      CutAt(SplitAtCharacters(word.text, IsWordCharacter), Behavior::kContiguous, word, parts);
      return absl::OkStatus();
    });
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Word>> PreTokenizer::Apply(Word text) const {
  std::vector<Word> words;
  if (text.text.empty()) return words;
  words.push_back(std::move(text));
  for (const Step& step : steps_) {
    std::vector<Word> parts;
    parts.reserve(words.size());
    for (Word& word : words) RETURN_IF_ERROR(step(std::move(word), &parts));
    words = std::move(parts);
    size_t num_bytes = 0;
    for (const Word& word : words) num_bytes += word.text.size();
    if (num_bytes > kMaxTextBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tokenizer's rules make more than ", kMaxTextBytes, " bytes"));
    }
  }
  return words;
}

}  // namespace adamoe
