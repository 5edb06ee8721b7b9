// What a load run says about a server.
#ifndef ADAMOE_CLIENT_BENCH_REPORT_H_
#define ADAMOE_CLIENT_BENCH_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "client/bench/load_run.h"
#include "client/bench/percentile.h"

namespace adamoe {

struct Report {
  double seconds = 0;
  size_t ok = 0;
  std::map<std::string, size_t> failed;        // code -> requests
  std::map<std::string, std::string> example;  // code -> one message
  // Tokens of all requests that came, also of those that failed later.
  uint64_t output_tokens = 0;
  // The rest is of requests that ended well.
  uint64_t prompt_tokens = 0;
  uint64_t cached_prompt_tokens = 0;
  Percentiles first_token, inter_token, whole;  // seconds
  // True experts per position and layer; nothing when no position was run.
  std::optional<double> experts_per_token;
  // 1 - executed / baseline.
  std::optional<double> flops_saved;
  uint64_t dropped_slots = 0;
};

Report MakeReport(const LoadResults& results, const v1::GetModelInfoResponse& info);

// A table for people.
std::string ToText(const Report& report);
// Times in seconds; what is not known is null.
nlohmann::json ToJson(const Report& report);

// The pieces, for other reports: {"p50": …, "p90": …, "p99": …, "max": …}, and milliseconds for
// people ("-": not known).
nlohmann::json ToJson(const Percentiles& percentiles);
std::string Milliseconds(const std::optional<double>& seconds);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_BENCH_REPORT_H_
