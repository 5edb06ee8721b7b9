#include "client/bench/percentile.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace adamoe {
namespace {

std::optional<double> OfSorted(const std::vector<double>& sorted, double percent) {
  if (sorted.empty()) return std::nullopt;
  const double rank = percent / 100 * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], rank - static_cast<double>(below));
}

}  // namespace

std::optional<double> Percentile(std::vector<double> values, double percent) {
  std::sort(values.begin(), values.end());
  return OfSorted(values, percent);
}

Percentiles Summarize(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {OfSorted(values, 50), OfSorted(values, 90), OfSorted(values, 99), OfSorted(values, 100)};
}

}  // namespace adamoe
