#include "client/bench/stall_probe.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/bench/report.h"

namespace adamoe {
namespace {

std::string Row(absl::string_view name, const Percentiles& p, size_t gaps) {
  return absl::StrFormat("%-30s p50 %9s  p99 %9s  max %9s  (%u gaps)\n", name, Milliseconds(p.p50),
                         Milliseconds(p.p99), Milliseconds(p.max), gaps);
}

std::string RatioText(const std::optional<double>& ratio) {
  return ratio.has_value() ? absl::StrFormat("%.2f x", *ratio) : "-";
}

nlohmann::json RatioJson(const std::optional<double>& during, const std::optional<double>& before) {
  const std::optional<double> ratio = Ratio(during, before);
  return ratio.has_value() ? nlohmann::json(*ratio) : nlohmann::json(nullptr);
}

}  // namespace

std::optional<double> Ratio(const std::optional<double>& during,
                            const std::optional<double>& before) {
  if (!during.has_value() || !before.has_value() || *before <= 0) return std::nullopt;
  return *during / *before;
}

StallReport MakeStallReport(const std::vector<StreamResult>& streams,
                            const std::vector<ProbeWindow>& windows) {
  std::vector<double> before, during, first_token;
  for (const StreamResult& stream : streams) {
    for (size_t i = 1; i < stream.token_times.size(); ++i) {
      const absl::Time from = stream.token_times[i - 1], to = stream.token_times[i];
      for (const ProbeWindow& window : windows) {
        const double gap = absl::ToDoubleSeconds(to - from);
        if (from < window.end && to > window.start) during.push_back(gap);
        if (from >= window.calm_start && to <= window.start) before.push_back(gap);
      }
    }
  }
  for (const ProbeWindow& window : windows) {
    first_token.push_back(absl::ToDoubleSeconds(window.end - window.start));
  }
  StallReport report;
  report.gaps_before = before.size();
  report.gaps_during = during.size();
  report.before = Summarize(std::move(before));
  report.during = Summarize(std::move(during));
  report.probe_first_token = Summarize(std::move(first_token));
  return report;
}

std::string ToText(const StallReport& report) {
  return absl::StrCat(Row("inter-token before the prompt", report.before, report.gaps_before),
                      Row("inter-token during the prompt", report.during, report.gaps_during),
                      absl::StrFormat("%-30s p50 %9s  p99 %9s  max %9s\n", "during / before",
                                      RatioText(Ratio(report.during.p50, report.before.p50)),
                                      RatioText(Ratio(report.during.p99, report.before.p99)),
                                      RatioText(Ratio(report.during.max, report.before.max))),
                      absl::StrFormat("%-30s p50 %9s  max %9s\n", "the prompt's own first token",
                                      Milliseconds(report.probe_first_token.p50),
                                      Milliseconds(report.probe_first_token.max)));
}

nlohmann::json ToJson(const StallReport& report) {
  return {{"before_seconds", ToJson(report.before)},
          {"during_seconds", ToJson(report.during)},
          {"gaps_before", report.gaps_before},
          {"gaps_during", report.gaps_during},
          {"ratio",
           {{"p50", RatioJson(report.during.p50, report.before.p50)},
            {"p99", RatioJson(report.during.p99, report.before.p99)},
            {"max", RatioJson(report.during.max, report.before.max)}}},
          {"probe_first_token_seconds", ToJson(report.probe_first_token)}};
}

StallProbe::StallProbe(v1::Inference::Stub* stub, RequestMaker maker, const StallOptions& options)
    : stub_(stub), maker_(std::move(maker)), options_(options) {}

void StallProbe::OnStreamDone(StreamResult result) {
  absl::MutexLock lock(&mu_);
  --running_;
  if (!stopping_) failure_.Update(result.status);
  streams_.push_back(std::move(result));
}

void StallProbe::StartOne() {
  {
    absl::MutexLock lock(&mu_);
    ++running_;
  }
  auto on_token = [this](size_t tokens) {
    if (tokens > 1) return;
    absl::MutexLock lock(&mu_);
    ++num_begun_;
  };
  contexts_.push_back(StartStream(
      stub_, maker_.Make(options_.prompt_tokens, options_.output_tokens), absl::InfiniteDuration(),
      on_token, [this](StreamResult result) { OnStreamDone(std::move(result)); }));
}

absl::Status StallProbe::Tend(absl::Time until, bool (StallProbe::*done)() const) {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      auto call = [this, done]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return running_ < options_.concurrency || !failure_.ok() || (this->*done)();
      };
      const bool called = mu_.AwaitWithDeadline(absl::Condition(&call), until);
      if (!failure_.ok()) return failure_;
      if (!called || (this->*done)() || absl::Now() >= until) return absl::OkStatus();
    }
    StartOne();
  }
}

absl::StatusOr<ProbeWindow> StallProbe::ProbeOnce() {
  ProbeWindow window;
  window.calm_start = absl::Now();
  if (auto status = Tend(window.calm_start + options_.interval, &StallProbe::Never); !status.ok())
    return status;
  {
    absl::MutexLock lock(&mu_);
    probe_.reset();
  }
  contexts_.push_back(StartStream(stub_, maker_.Make(options_.probe_prompt_tokens, 1),
                                  absl::InfiniteDuration(), nullptr, [this](StreamResult result) {
                                    absl::MutexLock lock(&mu_);
                                    failure_.Update(result.status);
                                    probe_ = std::move(result);
                                  }));
  if (auto status = Tend(absl::InfiniteFuture(), &StallProbe::ProbeEnded); !status.ok())
    return status;
  absl::MutexLock lock(&mu_);
  if (probe_->token_times.empty())
    return absl::InternalError("the long prompt's stream ended without a token");
  window.start = probe_->start;
  window.end = probe_->token_times.front();
  return window;
}

absl::StatusOr<std::vector<ProbeWindow>> StallProbe::ProbeAll() {
  if (auto status = Tend(absl::InfiniteFuture(), &StallProbe::AllFlow); !status.ok()) return status;
  std::vector<ProbeWindow> windows;
  while (windows.size() < options_.probes) {
    absl::StatusOr<ProbeWindow> window = ProbeOnce();
    if (!window.ok()) return window.status();
    windows.push_back(*window);
  }
  return windows;
}

absl::StatusOr<StallReport> StallProbe::Run() {
  absl::StatusOr<std::vector<ProbeWindow>> windows = ProbeAll();
  absl::MutexLock lock(&mu_);
  stopping_ = true;
  for (const auto& context : contexts_) context->TryCancel();
  auto ended = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return running_ == 0; };
  mu_.Await(absl::Condition(&ended));
  if (!windows.ok()) return windows.status();
  return MakeStallReport(streams_, *windows);
}

}  // namespace adamoe
