#include "server/log/request_line.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/log/json_text.h"

namespace adamoe {
namespace {

using Fields = nlohmann::ordered_json;

constexpr size_t kMaxStringBytes = 300;

// The start of `text`, without half a UTF-8 character at its end.
std::string Cut(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t end = max_bytes;
  while (end > 0 && max_bytes - end < 3 && (text[end] & 0xc0) == 0x80) --end;
  return absl::StrCat(text.substr(0, end), "...");
}

// To the microsecond.
double Seconds(absl::Duration duration) {
  return std::round(absl::ToDoubleSeconds(duration) * 1e6) / 1e6;
}

double ExpertsPerToken(const RequestLine& line) {
  const double layers = static_cast<double>(line.usage.positions) * line.num_layers;
  const double mean = static_cast<double>(line.usage.slots.true_slots) / layers;
  return layers == 0 ? 0.0 : std::round(mean * 1e4) / 1e4;
}

Fields FieldsOf(const RequestLine& line) {
  Fields fields;
  const auto add_text = [&fields](const char* key, absl::string_view text) {
    fields[key] = Cut(text, kMaxStringBytes);
  };
  add_text("request_id", line.request_id);
  add_text("rpc", line.rpc);
  add_text("outcome", line.outcome);
  fields["code"] = absl::StatusCodeToString(line.status.code());
  if (!line.status.ok()) add_text("status", line.status.message());
  const Usage& usage = line.usage;
  fields["prompt_tokens"] = usage.prompt_tokens;
  fields["cached_prompt_tokens"] = usage.cached_prompt_tokens;
  fields["completion_tokens"] = usage.completion_tokens;
  fields["experts_per_token"] = ExpertsPerToken(line);
  fields["true_slots"] = usage.slots.true_slots;
  fields["null_slots"] = usage.slots.null_slots;
  fields["dropped_slots"] = usage.slots.dropped_slots;
  fields["queue_seconds"] = Seconds(usage.queue_time);
  fields["prefill_seconds"] = Seconds(usage.prefill_time);
  fields["decode_seconds"] = Seconds(usage.decode_time);
  fields["duration_seconds"] = Seconds(line.duration);
  add_text("peer", line.peer);
  if (!line.caller.empty()) add_text("token", line.caller);
  if (line.trace.has_value()) {
    fields["trace_id"] = line.trace->trace_id;
    fields["span_id"] = line.trace->span_id;
    fields["parent_id"] = line.trace->parent_id;
  }
  if (line.prompt.has_value()) fields["prompt"] = Cut(*line.prompt, kMaxLoggedPromptBytes);
  return fields;
}

bool IsPlainWord(const std::string& text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && !absl::StrContains("-_.:/[]%@+", c)) return false;
  }
  return true;
}

std::string TextOf(const Fields& value) {
  if (!value.is_string()) return value.dump();
  const std::string text = value.get<std::string>();
  return IsPlainWord(text) ? text : AsciiJson(text);
}

}  // namespace

std::string FormatRequestLine(const RequestLine& line, LogFormat format) {
  const Fields fields = FieldsOf(line);
  if (format == LogFormat::kJson) return JsonText(fields);
  std::string text;
  for (const auto& [key, value] : fields.items()) {
    absl::StrAppend(&text, text.empty() ? "" : " ", key, "=", TextOf(value));
  }
  return text;
}

}  // namespace adamoe
