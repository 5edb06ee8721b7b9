// Percentiles of a sample.
#ifndef ADAMOE_CLIENT_BENCH_PERCENTILE_H_
#define ADAMOE_CLIENT_BENCH_PERCENTILE_H_

#include <optional>
#include <vector>

namespace adamoe {

// The values' `percent`-th percentile, with linear interpolation between neighbours; nothing of no
// values. REQUIRES: percent in [0, 100]; no value is NaN.
std::optional<double> Percentile(std::vector<double> values, double percent);

struct Percentiles {
  std::optional<double> p50, p90, p99, max;
};

Percentiles Summarize(std::vector<double> values);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_BENCH_PERCENTILE_H_
