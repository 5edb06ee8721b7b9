// Merges are learned on the list of distinct words. `pair_counts` holds the weighted count of every
// adjacent pair and `where` the words it was ever seen in; after a merge only those words are
// rewritten. The heap is lazy: an entry whose count is out of date is pushed again with the right
// one.
#include "train/bpe_trainer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adamoe {
namespace {

constexpr absl::string_view kSpace = "\xE2\x96\x81";  // "▁"

enum class CharClass { kLetter, kDigit, kOther };

CharClass ClassOf(unsigned char c) {
  if (c >= '0' && c <= '9') return CharClass::kDigit;
  const bool is_ascii_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return is_ascii_letter || c >= 0x80 ? CharClass::kLetter : CharClass::kOther;
}

// Bytes of the UTF-8 character that begins with `lead`.
size_t CharLength(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

std::vector<absl::string_view> SplitChars(absl::string_view word) {
  std::vector<absl::string_view> chars;
  while (!word.empty()) {
    const size_t length = std::min(CharLength(word[0]), word.size());
    chars.push_back(word.substr(0, length));
    word.remove_prefix(length);
  }
  return chars;
}

using Pair = std::pair<int32_t, int32_t>;

struct Word {
  std::vector<int32_t> ids;
  int64_t count;
};

class MergeLearner {
 public:
  MergeLearner(const WordCounts& counts, int64_t min_char_count) {
    std::vector<std::pair<absl::string_view, int64_t>> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end());
    AddBaseTokens();
    AddChars(sorted, min_char_count);
    for (const auto& [text, count] : sorted) AddWord(text, count);
    for (const auto& [pair, count] : pair_counts_) heap_.push(EntryOf(pair, count));
  }

  size_t num_base_tokens() const { return vocabulary_.tokens.size() - vocabulary_.merges.size(); }

  BpeVocabulary Learn(size_t vocab_size) && {
    while (vocabulary_.tokens.size() < vocab_size && !heap_.empty()) {
      const Entry entry = heap_.top();
      heap_.pop();
      const int64_t count = pair_counts_[entry.pair];
      if (count != entry.count) {
        if (count > 0) heap_.push(EntryOf(entry.pair, count));
        continue;
      }
      if (count < 2) break;
      Apply(entry.pair);
    }
    return std::move(vocabulary_);
  }

 private:
  struct Entry {
    int64_t count;
    Pair pair;
    std::string text;  // breaks ties: the lexically smaller merged token first
    bool operator<(const Entry& other) const {
      return std::tie(count, other.text, other.pair) < std::tie(other.count, text, pair);
    }
  };

  Entry EntryOf(Pair pair, int64_t count) const {
    return {count, pair,
            absl::StrCat(vocabulary_.tokens[pair.first], vocabulary_.tokens[pair.second])};
  }

  void AddBaseTokens() {
    vocabulary_.tokens = {"<unk>", "<s>", "</s>"};
    for (int byte = 0; byte < 256; ++byte) {
      vocabulary_.tokens.push_back(absl::StrFormat("<0x%02X>", byte));
    }
  }

  void AddChars(const std::vector<std::pair<absl::string_view, int64_t>>& words,
                int64_t min_char_count) {
    absl::flat_hash_map<absl::string_view, int64_t> char_counts;
    for (const auto& [text, count] : words) {
      for (absl::string_view c : SplitChars(text)) char_counts[c] += count;
    }
    std::vector<absl::string_view> chars;
    for (const auto& [c, count] : char_counts) {
      if (count >= min_char_count || c == kSpace) chars.push_back(c);
    }
    std::sort(chars.begin(), chars.end());
    for (absl::string_view c : chars) {
      char_ids_[std::string(c)] = static_cast<int32_t>(vocabulary_.tokens.size());
      vocabulary_.tokens.emplace_back(c);
    }
  }

  // A rare character is spelled in bytes, which merges never touch: -1 stands for it.
  void AddWord(absl::string_view text, int64_t count) {
    Word word{{}, count};
    for (absl::string_view c : SplitChars(text)) {
      const auto found = char_ids_.find(std::string(c));
      word.ids.push_back(found == char_ids_.end() ? -1 : found->second);
    }
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      CountPair({word.ids[i], word.ids[i + 1]}, count, words_.size());
    }
    words_.push_back(std::move(word));
  }

  void CountPair(Pair pair, int64_t count, size_t word) {
    if (pair.first < 0 || pair.second < 0) return;
    pair_counts_[pair] += count;
    if (count > 0) where_[pair].insert(word);
  }

  void Apply(Pair pair) {
    const int32_t merged = static_cast<int32_t>(vocabulary_.tokens.size());
    vocabulary_.tokens.push_back(
        absl::StrCat(vocabulary_.tokens[pair.first], vocabulary_.tokens[pair.second]));
    vocabulary_.merges.push_back(pair);
    absl::flat_hash_set<Pair> grown;
    for (size_t index : where_[pair]) Rewrite(index, pair, merged, &grown);
    where_.erase(pair);
    pair_counts_.erase(pair);
    for (Pair fresh : grown) heap_.push(EntryOf(fresh, pair_counts_[fresh]));
  }

  void Rewrite(size_t index, Pair pair, int32_t merged, absl::flat_hash_set<Pair>* grown) {
    Word& word = words_[index];
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      CountPair({word.ids[i], word.ids[i + 1]}, -word.count, index);
    }
    std::vector<int32_t> ids;
    for (size_t i = 0; i < word.ids.size(); ++i) {
      const bool here =
          i + 1 < word.ids.size() && word.ids[i] == pair.first && word.ids[i + 1] == pair.second;
      ids.push_back(here ? merged : word.ids[i]);
      i += here;
    }
    word.ids = std::move(ids);
    for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
      const Pair next{word.ids[i], word.ids[i + 1]};
      CountPair(next, word.count, index);
      if (next.first == merged || next.second == merged) {
        if (next.first >= 0 && next.second >= 0) grown->insert(next);
      }
    }
  }

  BpeVocabulary vocabulary_;
  absl::flat_hash_map<std::string, int32_t> char_ids_;
  std::vector<Word> words_;
  absl::flat_hash_map<Pair, int64_t> pair_counts_;
  absl::flat_hash_map<Pair, absl::flat_hash_set<size_t>> where_;
  std::priority_queue<Entry> heap_;
};

nlohmann::ordered_json SpecialToken(int id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

nlohmann::ordered_json PostProcessor() {
  using Json = nlohmann::ordered_json;
  const auto special = [](int type) {
    return Json{{"SpecialToken", {{"id", "<s>"}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* id, int type) {
    return Json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  Json json;
  json["type"] = "TemplateProcessing";
  json["single"] = Json::array({special(0), sequence("A", 0)});
  json["pair"] = Json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)});
  json["special_tokens"]["<s>"] = {
      {"id", "<s>"}, {"ids", Json::array({1})}, {"tokens", Json::array({"<s>"})}};
  return json;
}

}  // namespace

void CountWords(absl::string_view document, WordCounts* counts) {
  std::string word(kSpace);
  // What the word is made of so far; kOther for a lone "▁", which any class may follow.
  CharClass word_class = CharClass::kOther;
  bool has_chars = false;
  const auto flush = [&](absl::string_view next) {
    if (!word.empty()) ++(*counts)[word];
    word.assign(next.data(), next.size());
    has_chars = false;
  };
  for (char c : document) {
    if (c == ' ') {
      flush(kSpace);
    } else if (c == '\n') {
      flush("");
    } else {
      const CharClass next_class = ClassOf(c);
      if (has_chars && next_class != word_class) flush("");
      word_class = next_class;
      has_chars = true;
      word += c;
    }
  }
  flush("");
}

absl::StatusOr<BpeVocabulary> TrainBpe(const WordCounts& counts, int32_t vocab_size,
                                       int64_t min_char_count) {
  MergeLearner learner(counts, min_char_count);
  if (vocab_size < static_cast<int64_t>(learner.num_base_tokens())) {
    return absl::InvalidArgumentError(absl::StrCat("vocab_size ", vocab_size, " is less than the ",
                                                   learner.num_base_tokens(),
                                                   " tokens of bytes and characters"));
  }
  return std::move(learner).Learn(vocab_size);
}

std::string TokenizerJson(const BpeVocabulary& vocabulary) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  json["added_tokens"] =
      Json::array({SpecialToken(0, "<unk>"), SpecialToken(1, "<s>"), SpecialToken(2, "</s>")});
  const std::string space(kSpace);
  json["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       Json::array(
           {Json{{"type", "Prepend"}, {"prepend", space}},
            Json{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}}})}};
  json["pre_tokenizer"] = nullptr;
  json["post_processor"] = PostProcessor();
  json["decoder"] = {
      {"type", "Sequence"},
      {"decoders",
       Json::array({Json{{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", " "}},
                    Json{{"type", "ByteFallback"}}, Json{{"type", "Fuse"}},
                    Json{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}})}};
  Json& model = json["model"];
  model = {{"type", "BPE"},
           {"dropout", nullptr},
           {"unk_token", "<unk>"},
           {"continuing_subword_prefix", nullptr},
           {"end_of_word_suffix", nullptr},
           {"fuse_unk", true},
           {"byte_fallback", true},
           {"ignore_merges", false}};
  model["vocab"] = Json::object();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    model["vocab"][vocabulary.tokens[id]] = id;
  }
  model["merges"] = Json::array();
  for (const auto& [left, right] : vocabulary.merges) {
    model["merges"].push_back(absl::StrCat(vocabulary.tokens[left], " ", vocabulary.tokens[right]));
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string TokenizerConfigJson(int32_t max_length) {
  const nlohmann::ordered_json json = {{"add_bos_token", true},
                                       {"add_eos_token", false},
                                       {"bos_token", "<s>"},
                                       {"eos_token", "</s>"},
                                       {"unk_token", "<unk>"},
                                       {"clean_up_tokenization_spaces", false},
                                       {"legacy", true},
                                       {"model_max_length", max_length},
                                       {"tokenizer_class", "PreTrainedTokenizerFast"}};
  return json.dump(2) + "\n";
}

}  // namespace adamoe
