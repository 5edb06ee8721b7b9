// The symbols of a word form a linked list; a heap holds every neighbouring pair that could merge.
// The best pair, lowest rank first and leftmost among equals, is merged, and its two new
// neighbourhoods enter the heap. An entry whose symbols have merged otherwise meanwhile is known by
// the pair no longer making the token it promised.
#include "server/tokenizer/bpe_model.h"

#include <cstdio>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

struct Symbol {
  int32_t id;
  int32_t previous;  // index, or -1
  int32_t next;      // index, or -1
  bool merged_away;
};

struct Candidate {
  int32_t rank;
  int32_t left;  // index of the left symbol
  int32_t id;    // what the two become

  bool operator<(const Candidate& other) const {  // std::priority_queue's top is the largest
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

absl::Status RefuseIfSet(const JsonField& field) {
  if (field.IsNull()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string value, field.String());
  return value.empty() ? absl::OkStatus() : field.Error("is not supported");
}

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Parse(const JsonField& field) {
  if (field.IsNull()) return field.Error("is missing");
  if (!field["type"].IsNull()) {  // older files leave it out
    ASSIGN_OR_RETURN(const std::string type, field.Type());
    if (type != "BPE") return field["type"].Error(absl::StrCat("unknown model \"", type, "\""));
  }
  RETURN_IF_ERROR(RefuseIfSet(field["continuing_subword_prefix"]));
  RETURN_IF_ERROR(RefuseIfSet(field["end_of_word_suffix"]));
  const JsonField dropout = field["dropout"];
  const bool drops = !dropout.IsNull() && !dropout.IsZero();
  if (drops) return dropout.Error("is not supported: encoding must not be random");
  BpeModel model;
  ASSIGN_OR_RETURN(model.fuse_unknown_, field["fuse_unk"].Bool(false));
  ASSIGN_OR_RETURN(model.byte_fallback_, field["byte_fallback"].Bool(false));
  ASSIGN_OR_RETURN(model.ignore_merges_, field["ignore_merges"].Bool(false));
  RETURN_IF_ERROR(model.ReadVocab(field["vocab"]));
  RETURN_IF_ERROR(model.ReadMerges(field["merges"]));
  RETURN_IF_ERROR(model.ReadUnknown(field));
  model.FindByteTokens();
  return model;
}

absl::Status BpeModel::ReadVocab(const JsonField& field) {
  ASSIGN_OR_RETURN(const auto* const tokens, field.Object());
  vocab_.reserve(tokens->size());
  absl::flat_hash_map<int32_t, absl::string_view> seen;
  seen.reserve(tokens->size());
  for (const auto& [token, value] : *tokens) {
    ASSIGN_OR_RETURN(const int32_t id, field.Member(token, &value).Index(kMaxTokenId));
    const auto [other, is_new] = seen.emplace(id, token);
    if (!is_new) {
      return field.Error(absl::StrCat("\"", token, "\" and \"", other->second, "\" share id ", id));
    }
    vocab_.emplace(token, id);
  }
  return absl::OkStatus();
}

absl::Status BpeModel::ReadMerges(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::vector<JsonField> merges, field.Array());
  merges_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    RETURN_IF_ERROR(ReadMerge(merges[i], static_cast<int32_t>(i)));
  }
  return absl::OkStatus();
}

absl::Status BpeModel::ReadMerge(const JsonField& field, int32_t rank) {
  std::string left, right;
  if (field.IsArray()) {
    ASSIGN_OR_RETURN(const std::vector<JsonField> pair, field.Array());
    if (pair.size() != 2) return field.Error("expected two tokens");
    ASSIGN_OR_RETURN(left, pair[0].String());
    ASSIGN_OR_RETURN(right, pair[1].String());
  } else {
    ASSIGN_OR_RETURN(const std::string both, field.String());
    const size_t space = both.find(' ');
    if (space == both.npos || both.find(' ', space + 1) != both.npos) {
      return field.Error("expected two tokens and a space between them");
    }
    left = both.substr(0, space);
    right = both.substr(space + 1);
  }
  for (const std::string& token : {left, right, left + right}) {
    if (Find(token) < 0)
      return field.Error(absl::StrCat("\"", token, "\" is not in the vocabulary"));
  }
  merges_.insert_or_assign(PairKey(Find(left), Find(right)), Merge{rank, Find(left + right)});
  return absl::OkStatus();
}

absl::Status BpeModel::ReadUnknown(const JsonField& model) {
  const JsonField field = model["unk_token"];
  if (field.IsNull()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string token, field.String());
  unknown_id_ = Find(token);
  if (unknown_id_ < 0) return field.Error(absl::StrCat("\"", token, "\" is not in the vocabulary"));
  return absl::OkStatus();
}

void BpeModel::FindByteTokens() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    char token[8];
    std::snprintf(token, sizeof(token), "<0x%02X>", byte);
    byte_tokens_[byte] = Find(token);
  }
}

void BpeModel::Forbid(int32_t id) { forbidden_.insert(id); }

int32_t BpeModel::Find(absl::string_view token) const {
  const auto found = vocab_.find(token);
  return found == vocab_.end() || forbidden_.contains(found->second) ? -1 : found->second;
}

const BpeModel::Merge* BpeModel::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  if (found == merges_.end() || forbidden_.contains(found->second.id)) return nullptr;
  return &found->second;
}

bool BpeModel::AppendBytes(absl::string_view character, std::vector<int32_t>* ids) const {
  if (!byte_fallback_) return false;
  for (const char c : character) {
    if (byte_tokens_[static_cast<uint8_t>(c)] < 0) return false;
  }
  for (const char c : character) ids->push_back(byte_tokens_[static_cast<uint8_t>(c)]);
  return true;
}

std::vector<int32_t> BpeModel::Characters(absl::string_view word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  // An unknown token waits for the next known character, which a run of unknown ones shares when
  // fused.
  bool unknown_waits = false;
  while (!word.empty()) {
    const absl::string_view character = word.substr(0, Utf8Length(word[0]));
    word.remove_prefix(character.size());
    const int32_t id = Find(character);
    if (id >= 0) {
      if (std::exchange(unknown_waits, false)) ids.push_back(unknown_id_);
      ids.push_back(id);
    } else if (!AppendBytes(character, &ids) && unknown_id_ >= 0) {
      if (unknown_waits && !fuse_unknown_) ids.push_back(unknown_id_);
      unknown_waits = true;
    }
  }
  if (unknown_waits) ids.push_back(unknown_id_);
  return ids;
}

void BpeModel::MergeAll(const std::vector<int32_t>& characters, std::vector<int32_t>* ids) const {
  const int32_t size = static_cast<int32_t>(characters.size());
  std::vector<Symbol> symbols(characters.size());
  std::vector<Candidate> initial;
  for (int32_t i = 0; i < size; ++i) {
    symbols[i] = {characters[i], i - 1, i + 1 < size ? i + 1 : -1, false};
    const Merge* merge = i + 1 < size ? FindMerge(characters[i], characters[i + 1]) : nullptr;
    if (merge != nullptr) initial.push_back({merge->rank, i, merge->id});
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(initial));
  const auto offer = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const Merge* merge = FindMerge(symbols[left].id, symbols[symbols[left].next].id);
    if (merge != nullptr) queue.push({merge->rank, left, merge->id});
  };
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.left];
    if (left.merged_away || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != best.id) continue;
    left.id = best.id;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) symbols[left.next].previous = best.left;
    offer(left.previous);
    offer(best.left);
  }
  for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[i].next)
    ids->push_back(symbols[i].id);
}

void BpeModel::Encode(absl::string_view word, std::vector<int32_t>* ids) const {
  const int32_t whole = ignore_merges_ ? Find(word) : -1;
  if (whole >= 0) {
    ids->push_back(whole);
  } else {
    MergeAll(Characters(word), ids);
  }
}

}  // namespace adamoe
