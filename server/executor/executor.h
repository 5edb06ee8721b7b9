// The loop that runs the model: one thread that owns the running batch. Each step drains the queue,
// plans, builds the batch, runs the model, samples, hands tokens to their sinks and counts.
#ifndef ADAMOE_SERVER_EXECUTOR_EXECUTOR_H_
#define ADAMOE_SERVER_EXECUTOR_EXECUTOR_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/model/model.h"
#include "server/queue/request_queue.h"
#include "server/request/step_observer.h"

namespace adamoe {

class Executor {
 public:
  struct Options {
    int32_t max_batch_tokens =
        512;  // positions per step: the budget that prefill chunks share with decode
    int32_t max_running_requests = 64;  // sequences in the batch
    bool prefix_caching = true;
    // Prompt positions per step while other requests decode, so that a long prompt does not stall
    // them. 0: as many as keep such a step at about twice the measured time of one that only
    // decodes.
    int32_t prefill_chunk_tokens = 0;
    // A request that has been here for longer goes before any priority, and is not preempted for
    // one.
    absl::Duration starvation_limit = absl::Seconds(30);
  };

  // All pointers must outlive the executor.
  Executor(const Options& options, Model* model, RequestQueue* queue, StepObserver* observer,
           const Clock* clock);
  // Stops at once: what still runs ends with UNAVAILABLE.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Starts the thread.
  void Start();

  // Closes the queue, lets what is queued and running end, until `timeout` has passed; the rest
  // ends with UNAVAILABLE. Blocks until the thread has ended. Call once, from any thread but the
  // executor's.
  void Drain(absl::Duration timeout);

  // When the loop last went round; moves on while idle too. InfinitePast once the model is lost.
  // For health: thread-safe.
  absl::Time last_progress() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_EXECUTOR_EXECUTOR_H_
