#include "client/bench/report.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace adamoe {
namespace {

// What the usage of all streams adds up to.
void AddUsage(const std::vector<v1::Usage>& usages, uint32_t experts_per_token, Report* report) {
  double true_slots = 0, slots = 0, executed = 0, baseline = 0;
  for (const v1::Usage& usage : usages) {
    report->prompt_tokens += usage.prompt_tokens();
    report->cached_prompt_tokens += usage.cached_prompt_tokens();
    report->dropped_slots += usage.dropped_slots();
    true_slots += static_cast<double>(usage.true_slots());
    slots += static_cast<double>(usage.true_slots() + usage.null_slots() + usage.dropped_slots());
    executed += static_cast<double>(usage.executed_expert_flops());
    baseline += static_cast<double>(usage.baseline_expert_flops());
  }
  // slots = positions x layers x k.
  if (slots > 0) report->experts_per_token = true_slots * experts_per_token / slots;
  if (baseline > 0) report->flops_saved = 1 - executed / baseline;
}

nlohmann::json OrNull(const std::optional<double>& value) {
  return value.has_value() ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

double PerSecond(uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::string PercentileRow(absl::string_view name, const Percentiles& p) {
  return absl::StrFormat("%-22s p50 %9s  p90 %9s  p99 %9s  max %9s\n", name, Milliseconds(p.p50),
                         Milliseconds(p.p90), Milliseconds(p.p99), Milliseconds(p.max));
}

}  // namespace

Report MakeReport(const LoadResults& results, const v1::GetModelInfoResponse& info) {
  Report report;
  report.seconds = absl::ToDoubleSeconds(results.wall);
  std::vector<double> first_token, inter_token, whole;
  std::vector<v1::Usage> usages;
  for (const StreamResult& stream : results.streams) {
    report.output_tokens += stream.token_times.size();
    if (!stream.status.ok()) {
      const std::string code = absl::StatusCodeToString(stream.status.code());
      ++report.failed[code];
      report.example.try_emplace(code, stream.status.message());
      continue;
    }
    ++report.ok;
    usages.push_back(stream.usage);
    whole.push_back(absl::ToDoubleSeconds(stream.end - stream.start));
    if (stream.token_times.empty()) continue;
    first_token.push_back(TimeToFirstToken(stream));
    AppendGaps(stream, &inter_token);
  }
  report.first_token = Summarize(std::move(first_token));
  report.inter_token = Summarize(std::move(inter_token));
  report.whole = Summarize(std::move(whole));
  AddUsage(usages, info.experts_per_token(), &report);
  return report;
}

std::string Milliseconds(const std::optional<double>& seconds) {
  return seconds.has_value() ? absl::StrFormat("%.2f ms", *seconds * 1e3) : "-";
}

std::string ToText(const Report& report) {
  std::string text = absl::StrFormat("%-22s %u ok", "requests", report.ok);
  for (const auto& [code, count] : report.failed)
    absl::StrAppendFormat(&text, ", %u %s", count, code);
  absl::StrAppendFormat(&text, "\n%-22s %.2f s\n", "duration", report.seconds);
  absl::StrAppendFormat(
      &text, "%-22s %.2f requests/s, %.1f output tokens/s, %.1f prompt tokens/s (%u cached)\n",
      "throughput", PerSecond(report.ok, report.seconds),
      PerSecond(report.output_tokens, report.seconds),
      PerSecond(report.prompt_tokens, report.seconds), report.cached_prompt_tokens);
  absl::StrAppend(&text, PercentileRow("time to first token", report.first_token),
                  PercentileRow("inter-token latency", report.inter_token),
                  PercentileRow("whole request", report.whole));
  if (report.experts_per_token.has_value()) {
    absl::StrAppendFormat(&text, "%-22s %.3f per token and layer, %u slots dropped\n",
                          "true experts", *report.experts_per_token, report.dropped_slots);
  }
  if (report.flops_saved.has_value()) {
    absl::StrAppendFormat(&text, "%-22s %.1f %% saved against the baseline\n", "expert FLOPs",
                          100 * *report.flops_saved);
  }
  for (const auto& [code, message] : report.example)
    absl::StrAppendFormat(&text, "%s, as in: %s\n", code, message);
  return text;
}

nlohmann::json ToJson(const Percentiles& percentiles) {
  return {{"p50", OrNull(percentiles.p50)},
          {"p90", OrNull(percentiles.p90)},
          {"p99", OrNull(percentiles.p99)},
          {"max", OrNull(percentiles.max)}};
}

nlohmann::json ToJson(const Report& report) {
  return {{"duration_seconds", report.seconds},
          {"requests_ok", report.ok},
          {"requests_failed", report.failed},
          {"requests_per_second", PerSecond(report.ok, report.seconds)},
          {"output_tokens", report.output_tokens},
          {"output_tokens_per_second", PerSecond(report.output_tokens, report.seconds)},
          {"prompt_tokens", report.prompt_tokens},
          {"prompt_tokens_per_second", PerSecond(report.prompt_tokens, report.seconds)},
          {"cached_prompt_tokens", report.cached_prompt_tokens},
          {"time_to_first_token_seconds", ToJson(report.first_token)},
          {"inter_token_latency_seconds", ToJson(report.inter_token)},
          {"request_duration_seconds", ToJson(report.whole)},
          {"experts_per_token", OrNull(report.experts_per_token)},
          {"expert_flops_saved_ratio", OrNull(report.flops_saved)},
          {"dropped_slots", report.dropped_slots}};
}

}  // namespace adamoe
