#include "server/serving/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace adamoe {

StopMatcher::Result StopMatcher::Push(absl::string_view piece, bool may_stop) {
  if (stops_.empty()) return {std::string(piece)};
  const size_t old_size = held_.size();
  held_.append(piece.data(), piece.size());
  size_t match_end = std::string::npos;
  size_t match_begin = 0;
  const std::string* match = nullptr;
  for (const std::string& stop : stops_) {
    if (!may_stop) break;
    // A match that ended in an earlier piece was not allowed to count.
    const size_t from = old_size >= stop.size() ? old_size - stop.size() + 1 : 0;
    const size_t begin = held_.find(stop, from);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < match_end || (end == match_end && begin < match_begin)) {
      match_end = end;
      match_begin = begin;
      match = &stop;
    }
  }
  if (match != nullptr) {
    Result result = {held_.substr(0, match_begin), match};
    held_.clear();
    return result;
  }
  const size_t num_sure = held_.size() - PossibleStart();
  Result result = {held_.substr(0, num_sure)};
  held_.erase(0, num_sure);
  return result;
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

size_t StopMatcher::PossibleStart() const {
  const absl::string_view text = held_;
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t size = std::min(text.size(), stop.size() - 1); size > longest; --size) {
      if (text.substr(text.size() - size) == absl::string_view(stop).substr(0, size))
        longest = size;
    }
  }
  return longest;
}

}  // namespace adamoe
