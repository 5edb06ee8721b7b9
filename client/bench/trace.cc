#include "client/bench/trace.h"

#include <zlib.h>

#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace adamoe {
namespace {

constexpr double kMaxSeconds = 1e9;

absl::StatusOr<uint32_t> ParseLength(absl::string_view text, absl::string_view name,
                                     absl::string_view where) {
  uint32_t length;
  if (!absl::SimpleAtoi(text, &length) || length == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", name, " '", text, "' is not a whole number of at least 1"));
  }
  return length;
}

absl::StatusOr<Arrival> ParseLine(absl::string_view line, absl::string_view where) {
  const std::vector<absl::string_view> columns = absl::StrSplit(line, ',');
  if (columns.size() < 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": expected arrival time, prompt tokens and output tokens, got '", line, "'"));
  }
  double seconds;
  if (!absl::SimpleAtod(columns[0], &seconds) || !(seconds >= 0 && seconds <= kMaxSeconds)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": arrival time '", columns[0],
                                                   "' is not a number of seconds from 0 to 1e9"));
  }
  auto prompt = ParseLength(absl::StripAsciiWhitespace(columns[1]), "prompt length", where);
  if (!prompt.ok()) return prompt.status();
  auto output = ParseLength(absl::StripAsciiWhitespace(columns[2]), "output length", where);
  if (!output.ok()) return output.status();
  return Arrival{absl::Seconds(seconds), *prompt, *output};
}

bool IsColumnNames(absl::string_view line) {
  return absl::ascii_isalpha(static_cast<unsigned char>(line[0])) || line[0] == '"';
}

}  // namespace

absl::StatusOr<std::vector<Arrival>> ParseTrace(absl::string_view csv, const std::string& file) {
  std::vector<Arrival> arrivals;
  size_t number = 0;
  bool at_top = true;
  for (absl::string_view raw : absl::StrSplit(csv, '\n')) {
    ++number;
    const absl::string_view line = absl::StripAsciiWhitespace(raw);
    if (line.empty() || line[0] == '#') continue;
    const bool names = at_top && IsColumnNames(line);
    at_top = false;
    if (names) continue;
    const std::string where = absl::StrCat(file, ":", number);
    absl::StatusOr<Arrival> arrival = ParseLine(line, where);
    if (!arrival.ok()) return arrival.status();
    if (!arrivals.empty() && arrival->at < arrivals.back().at) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": arrives before the line above it"));
    }
    arrivals.push_back(*arrival);
  }
  if (arrivals.empty()) return absl::InvalidArgumentError(absl::StrCat(file, ": no requests"));
  return arrivals;
}

absl::StatusOr<std::vector<Arrival>> ReadTrace(const std::string& file) {
  gzFile stream = gzopen(file.c_str(), "rb");  // reads plain files as they are
  if (stream == nullptr) return absl::NotFoundError(absl::StrCat(file, ": cannot be opened"));
  std::string text;
  char buffer[1 << 16];
  int size;
  while ((size = gzread(stream, buffer, sizeof(buffer))) > 0)
    text.append(buffer, static_cast<size_t>(size));
  int error = Z_OK;
  gzerror(stream, &error);
  // A file cut short reads to its end without an error until it is closed.
  const bool ok = gzclose(stream) == Z_OK && size == 0 && error == Z_OK;
  if (!ok)
    return absl::DataLossError(absl::StrCat(file, ": cannot be read, or is not whole gzip data"));
  return ParseTrace(text, file);
}

std::vector<Arrival> PoissonArrivals(double rate, size_t max_arrivals, absl::Duration duration,
                                     uint64_t seed, uint32_t prompt_tokens,
                                     uint32_t output_tokens) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> gap(rate);
  std::vector<Arrival> arrivals;
  for (absl::Duration at; arrivals.size() < max_arrivals; at += absl::Seconds(gap(random))) {
    if (at >= duration) break;
    arrivals.push_back({at, prompt_tokens, output_tokens});
  }
  return arrivals;
}

}  // namespace adamoe
