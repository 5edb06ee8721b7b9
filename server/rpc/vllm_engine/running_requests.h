// Requests under way by their callers' names for them, for Abort. Holds only what runs.
// Thread-safe.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_RUNNING_REQUESTS_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_RUNNING_REQUESTS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {

class Abortable {
 public:
  virtual ~Abortable() = default;
  // Any thread; does not block.
  virtual void Abort() = 0;
};

class RunningRequests {
 public:
  // Whose token it came with (empty where none are wanted), and request_id.
  using Key = std::pair<std::string, std::string>;

  // Several may have the same key.
  void Add(const Key& key, const std::shared_ptr<Abortable>& request) ABSL_LOCKS_EXCLUDED(mu_);
  // Without effect on what was not added.
  void Remove(const Key& key, const Abortable* request) ABSL_LOCKS_EXCLUDED(mu_);

  // Aborts all that run under `key`.
  void Abort(const Key& key) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Mutex mu_;
  std::multimap<Key, std::shared_ptr<Abortable>> running_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_RUNNING_REQUESTS_H_
