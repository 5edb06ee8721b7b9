// Whether one long prompt holds up the streams that are running: their inter-token latency before
// it comes, and while it is being read.
#ifndef ADAMOE_CLIENT_BENCH_STALL_PROBE_H_
#define ADAMOE_CLIENT_BENCH_STALL_PROBE_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "adamoe/v1/inference.grpc.pb.h"
#include "client/bench/load_run.h"
#include "client/bench/percentile.h"
#include "client/bench/request_stream.h"

namespace adamoe {

struct StallOptions {
  size_t concurrency = 8;               // streams
  uint32_t prompt_tokens = 16;          // of each stream
  uint32_t output_tokens = 1024;        // of each stream; one that ends is followed by another
  uint32_t probe_prompt_tokens = 2000;  // of the long prompt; one token is generated
  size_t probes = 3;                    // long prompts, one after the other
  absl::Duration interval = absl::Seconds(2);  // undisturbed running before each
};

// From `start`, when the long prompt was sent, to `end`, when its token came.
struct ProbeWindow {
  absl::Time calm_start;  // undisturbed from here to `start`
  absl::Time start;
  absl::Time end;
};

struct StallReport {
  Percentiles before;  // of the streams' gaps between tokens that lie in a calm window, seconds
  Percentiles during;  // of the gaps that overlap a probe's window
  size_t gaps_before = 0;
  size_t gaps_during = 0;
  Percentiles probe_first_token;  // the long prompts' own time to first token
};

// Sorts the streams' gaps into those before and those during the probes.
StallReport MakeStallReport(const std::vector<StreamResult>& streams,
                            const std::vector<ProbeWindow>& windows);

// during / before: 1 is undisturbed.
std::optional<double> Ratio(const std::optional<double>& during,
                            const std::optional<double>& before);

std::string ToText(const StallReport& report);
nlohmann::json ToJson(const StallReport& report);

// Runs one measurement.
class StallProbe {
 public:
  // `stub` must outlive the probe.
  StallProbe(v1::Inference::Stub* stub, RequestMaker maker, const StallOptions& options);

  // Call once. The error is the first failed stream's or probe's.
  absl::StatusOr<StallReport> Run() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void StartOne() ABSL_LOCKS_EXCLUDED(mu_);
  void OnStreamDone(StreamResult result) ABSL_LOCKS_EXCLUDED(mu_);
  // Puts a new stream in the place of each that ended until `until`, or until `done` says so.
  absl::Status Tend(absl::Time until, bool (StallProbe::*done)() const) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<ProbeWindow> ProbeOnce() ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<std::vector<ProbeWindow>> ProbeAll() ABSL_LOCKS_EXCLUDED(mu_);

  bool AllFlow() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return num_begun_ >= options_.concurrency;
  }
  bool ProbeEnded() const ABSL_SHARED_LOCKS_REQUIRED(mu_) { return probe_.has_value(); }
  bool Never() const { return false; }

  v1::Inference::Stub* const stub_;
  RequestMaker maker_;
  const StallOptions options_;
  std::vector<std::shared_ptr<grpc::ClientContext>> contexts_;  // of every stream started

  absl::Mutex mu_;
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  size_t num_begun_ ABSL_GUARDED_BY(mu_) = 0;  // streams that have had their first token
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  std::vector<StreamResult> streams_ ABSL_GUARDED_BY(mu_);
  std::optional<StreamResult> probe_ ABSL_GUARDED_BY(mu_);  // once it has ended
};

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_BENCH_STALL_PROBE_H_
