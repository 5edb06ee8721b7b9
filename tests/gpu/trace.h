// A recorded trace of requests (arrivals, cancellations, dials), sent through the executor that the
// server links, and its answers checked against a model that is trusted. Thread-compatible.
#ifndef ADAMOE_TESTS_GPU_TRACE_H_
#define ADAMOE_TESTS_GPU_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/executor/executor.h"
#include "server/model/model.h"
#include "server/request/compute_dial.h"
#include "server/request/usage.h"
#include "tests/fakes/recording_observer.h"

namespace adamoe {

struct TraceRequest {
  absl::Duration at;  // after the first
  std::vector<int32_t> prompt;
  uint32_t max_tokens = 1;
  ComputeDial compute;
  int32_t priority = 0;
  // Cancelled once that many tokens are out; 0: not.
  uint32_t cancel_after = 0;
};

// Reads a file of one JSON object a line:
//   {"at_ms": 12, "prompt": 40, "seed": 3, "max_tokens": 9}
// and, where they are not 0, "shared" (leading tokens that all requests share), "null_bias",
// "max_experts", "priority", "cancel_after". `prompt` tokens below `vocab_size` are made from the
// seed. INVALID_ARGUMENT naming the line.
absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& path, int32_t vocab_size);

struct TraceAnswer {
  absl::Status status;
  std::vector<int32_t> ids;
  std::vector<uint32_t> experts;  // of each id, summed over layers
  Usage usage;
};

struct TraceRun {
  std::vector<TraceAnswer> answers;  // one per request
  RecordingObserver::Record record;  // of every step
  absl::Duration duration;
};

// Sends the requests at their times, greedily sampled, and waits for all. UNAVAILABLE when a
// request cannot be submitted or does not end.
absl::StatusOr<TraceRun> RunTrace(const std::vector<TraceRequest>& trace,
                                  const Executor::Options& options, Model* model);

struct TraceCheck {
  int64_t num_tokens = 0;
  int64_t num_expert_differences = 0;  // tokens whose experts are not as many as the oracle's
  int64_t num_other_choices = 0;       // tokens the oracle ranks lower, beyond `tolerance`
};

// Runs each answer's tokens through `oracle` alone and checks that every token is its greedy
// choice. Two logits nearer than `tolerance` times their spread are a tie. INTERNAL, naming the
// request, when an answer has not the tokens, outcome or sums of slots that the request asked for.
absl::StatusOr<TraceCheck> CheckTrace(const std::vector<TraceRequest>& trace, const TraceRun& run,
                                      Model* oracle, double tolerance);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_TRACE_H_
