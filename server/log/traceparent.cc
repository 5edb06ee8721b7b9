#include "server/log/traceparent.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

bool IsLowerHex(absl::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

bool IsZero(absl::string_view text) {
  return text.find_first_not_of('0') == absl::string_view::npos;
}

std::string NewSpanId() {
  thread_local std::mt19937_64 generator((uint64_t{std::random_device()()} << 32) ^
                                         std::random_device()());
  return absl::StrCat(absl::Hex(std::max<uint64_t>(generator(), 1), absl::kZeroPad16));
}

}  // namespace

// version "-" trace-id "-" parent-id "-" flags; versions to come may append "-" and more.
std::optional<TraceContext> ParseTraceparent(absl::string_view header) {
  constexpr size_t kSize = 2 + 1 + 32 + 1 + 16 + 1 + 2;
  if (header.size() < kSize) return std::nullopt;
  const absl::string_view version = header.substr(0, 2);
  const absl::string_view trace_id = header.substr(3, 32);
  const absl::string_view parent_id = header.substr(36, 16);
  const absl::string_view flags = header.substr(53, 2);
  if (header[2] != '-' || header[35] != '-' || header[52] != '-') return std::nullopt;
  for (const absl::string_view part : {version, trace_id, parent_id, flags}) {
    if (!IsLowerHex(part)) return std::nullopt;
  }
  if (version == "ff" || IsZero(trace_id) || IsZero(parent_id)) return std::nullopt;
  if (header.size() > kSize && (version == "00" || header[kSize] != '-')) return std::nullopt;
  return TraceContext{std::string(trace_id), std::string(parent_id), NewSpanId()};
}

}  // namespace adamoe
