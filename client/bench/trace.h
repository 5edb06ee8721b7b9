// When requests arrive, and how long they are: drawn at random, or read from a recording.
#ifndef ADAMOE_CLIENT_BENCH_TRACE_H_
#define ADAMOE_CLIENT_BENCH_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace adamoe {

struct Arrival {
  absl::Duration at;  // since the start
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
};

// Lines of "arrival time in seconds, prompt tokens, output tokens", sorted by time; further
// columns, empty lines, lines that begin with # and one line of column names at the top are
// skipped. INVALID_ARGUMENT names the line (`file`:line), the value and what was expected; a trace
// without requests is one too.
absl::StatusOr<std::vector<Arrival>> ParseTrace(absl::string_view csv, const std::string& file);

// The same of a file, which may be compressed with gzip. NOT_FOUND or DATA_LOSS when it cannot be
// read.
absl::StatusOr<std::vector<Arrival>> ReadTrace(const std::string& file);

// A Poisson process: `rate` arrivals a second in the mean, until there are `max_arrivals` or
// `duration` has passed. The same seed gives the same times. REQUIRES: rate > 0, and one of the two
// limits is finite.
std::vector<Arrival> PoissonArrivals(double rate, size_t max_arrivals, absl::Duration duration,
                                     uint64_t seed, uint32_t prompt_tokens, uint32_t output_tokens);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_BENCH_TRACE_H_
