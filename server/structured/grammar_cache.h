// Compiled grammars by their text, the ones used last kept: at most so many, and so many bytes of
// those that no request uses. Thread-compatible.
#ifndef ADAMOE_SERVER_STRUCTURED_GRAMMAR_CACHE_H_
#define ADAMOE_SERVER_STRUCTURED_GRAMMAR_CACHE_H_

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "server/structured/grammar.h"

namespace adamoe {

class GrammarCache {
 public:
  // A grammar counts with its own bytes and kProcessBytes for the process it lives in.
  GrammarCache(size_t max_bytes, size_t max_grammars)
      : max_bytes_(max_bytes), max_grammars_(max_grammars) {}

  static constexpr size_t kProcessBytes = 2 << 20;

  // Null when it is not there, or its process has ended.
  std::shared_ptr<Grammar> Find(const std::string& key);

  // Takes it in, in place of one of the same key, and lets go of unused ones that exceed the
  // bounds.
  void Insert(const std::string& key, std::shared_ptr<Grammar> grammar);

  // Lets go of what is unused until one more fits. False when max_grammars are in use.
  bool MakeRoom();

  size_t num_grammars() const { return entries_.size(); }
  size_t num_bytes() const { return num_bytes_; }

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<Grammar> grammar;
    size_t num_bytes = 0;
  };
  using Entries = std::list<Entry>;

  void Erase(Entries::iterator entry);
  // Erases unused entries, those used longest ago first, until both bounds hold or none is left.
  void Trim(size_t max_grammars);

  const size_t max_bytes_;
  const size_t max_grammars_;
  Entries entries_;  // used last first
  absl::flat_hash_map<std::string, Entries::iterator> by_key_;
  size_t num_bytes_ = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_GRAMMAR_CACHE_H_
