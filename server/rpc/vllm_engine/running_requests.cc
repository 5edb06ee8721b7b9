#include "server/rpc/vllm_engine/running_requests.h"

#include <vector>

namespace adamoe {

void RunningRequests::Add(const Key& key, const std::shared_ptr<Abortable>& request) {
  absl::MutexLock lock(&mu_);
  running_.emplace(key, request);
}

void RunningRequests::Remove(const Key& key, const Abortable* request) {
  std::shared_ptr<Abortable> removed;  // goes when mu_ is free
  absl::MutexLock lock(&mu_);
  const auto [begin, end] = running_.equal_range(key);
  for (auto entry = begin; entry != end; ++entry) {
    if (entry->second.get() != request) continue;
    removed = std::move(entry->second);
    running_.erase(entry);
    return;
  }
}

void RunningRequests::Abort(const Key& key) {
  std::vector<std::shared_ptr<Abortable>> found;
  {
    absl::MutexLock lock(&mu_);
    const auto [begin, end] = running_.equal_range(key);
    for (auto entry = begin; entry != end; ++entry) found.push_back(entry->second);
  }
  for (const auto& request : found) request->Abort();
}

}  // namespace adamoe
