// Sends requests to a server, closed loop or open, and keeps what became of them.
#ifndef ADAMOE_CLIENT_BENCH_LOAD_RUN_H_
#define ADAMOE_CLIENT_BENCH_LOAD_RUN_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "adamoe/v1/inference.grpc.pb.h"
#include "client/bench/request_stream.h"
#include "client/bench/trace.h"

namespace adamoe {

// Makes requests of given lengths: random token ids, and outputs that no stop token ends.
// Thread-compatible.
class RequestMaker {
 public:
  // `base` holds what all requests share (sampling, compute). Ids are drawn from [vocab_size / 8,
  // vocab_size), where no tokenizer keeps its special tokens. REQUIRES: vocab_size >= 1.
  RequestMaker(v1::GenerateRequest base, uint32_t vocab_size, uint64_t seed);
  v1::GenerateRequest Make(uint32_t prompt_tokens, uint32_t output_tokens);

 private:
  const v1::GenerateRequest base_;
  std::mt19937_64 random_;
  std::uniform_int_distribution<uint32_t> id_;
};

struct LoadResults {
  absl::Duration wall;  // first request to last answer
  std::vector<StreamResult> streams;
};

// Runs one load. Call one of the two Run functions, once; it returns when every request has ended.
class LoadRun {
 public:
  // `stub` must outlive the run. `timeout` holds for each request.
  LoadRun(v1::Inference::Stub* stub, RequestMaker maker, absl::Duration timeout);

  // Keeps `concurrency` requests of these lengths running until `max_requests` have been started or
  // `duration` is over.
  LoadResults RunClosed(size_t concurrency, size_t max_requests, absl::Duration duration,
                        uint32_t prompt_tokens, uint32_t output_tokens) ABSL_LOCKS_EXCLUDED(mu_);
  // Starts each request at its time, however many are running.
  LoadResults RunOpen(const std::vector<Arrival>& arrivals) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Start(uint32_t prompt_tokens, uint32_t output_tokens) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until fewer than `limit` requests run; false when `until` comes first.
  bool AwaitFewerThan(size_t limit, absl::Time until) ABSL_LOCKS_EXCLUDED(mu_);
  LoadResults Finish(absl::Time start) ABSL_LOCKS_EXCLUDED(mu_);

  v1::Inference::Stub* const stub_;
  RequestMaker maker_;
  const absl::Duration timeout_;

  absl::Mutex mu_;
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<StreamResult> streams_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_BENCH_LOAD_RUN_H_
