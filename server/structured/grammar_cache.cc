#include "server/structured/grammar_cache.h"

namespace adamoe {

std::shared_ptr<Grammar> GrammarCache::Find(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  if (!found->second->grammar->alive()) {
    Erase(found->second);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  return entries_.front().grammar;
}

void GrammarCache::Insert(const std::string& key, std::shared_ptr<Grammar> grammar) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) Erase(found->second);
  const size_t num_bytes = grammar->num_bytes() + key.size() + kProcessBytes;
  entries_.push_front({key, std::move(grammar), num_bytes});
  by_key_[key] = entries_.begin();
  num_bytes_ += num_bytes;
  Trim(max_grammars_);
}

bool GrammarCache::MakeRoom() {
  Trim(max_grammars_ - 1);
  return entries_.size() < max_grammars_;
}

void GrammarCache::Erase(Entries::iterator entry) {
  num_bytes_ -= entry->num_bytes;
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

void GrammarCache::Trim(size_t max_grammars) {
  for (auto entry = entries_.end(); entry != entries_.begin();) {
    if (entries_.size() <= max_grammars && num_bytes_ <= max_bytes_) return;
    --entry;
    if (entry->grammar.use_count() > 1) continue;
    const auto unused = entry++;
    Erase(unused);
  }
}

}  // namespace adamoe
