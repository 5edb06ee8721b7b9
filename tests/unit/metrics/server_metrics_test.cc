#include "server/metrics/server_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/fakes/fake_clock.h"

namespace adamoe {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

ServerMetrics::Options SmallOptions() {
  return {
      .model_labels = {{"model_name", "tiny"}},
      .build_labels = {{"version", "1.2.3"}},
      .num_layers = 2,
      .num_experts = 3,
      .kv_block_size = 16,
      .num_kv_blocks = 8,
      .flops = {.per_slot = 600, .experts_per_token = 3, .baseline_experts_per_token = 2},
      .other_flops = {.projections = 100, .attention_per_key = 7, .router = 10, .lm_head = 1000}};
}

// One scrape: every sample by its name and labels, and the type of every family.
struct Scrape {
  std::map<std::string, double> samples;
  std::map<std::string, std::string> types;

  // Label sets of a family's samples, as the text has them.
  std::set<std::string> LabelsOf(const std::string& name) const {
    std::set<std::string> labels;
    for (const auto& [key, value] : samples) {
      if (key == name) labels.insert("");
      if (key.rfind(name + "{", 0) == 0) labels.insert(key.substr(name.size()));
    }
    return labels;
  }
};

Scrape Read(const ServerMetrics& metrics) {
  Scrape scrape;
  const std::string text = metrics.Text();
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (const std::string& line : lines) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (line.rfind("# TYPE", 0) == 0) {
      scrape.types[words.at(2)] = words.at(3);
    } else if (line[0] != '#') {
      const size_t space = line.rfind(' ');
      double value = -1;
      EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
      EXPECT_TRUE(scrape.samples.emplace(line.substr(0, space), value).second) << line;
    }
  }
  return scrape;
}

TEST(ServerMetricsTest, FamiliesAndTypesAreThePublicOnes) {
  FakeClock clock;
  auto options = SmallOptions();
  options.per_expert_metrics = true;
  const std::map<std::string, std::string> expected = {
      {"adamoe_requests_waiting", "gauge"},
      {"adamoe_requests_running", "gauge"},
      {"adamoe_kv_cache_usage_ratio", "gauge"},
      {"adamoe_kv_cache_info", "gauge"},
      {"adamoe_model_info", "gauge"},
      {"adamoe_build_info", "gauge"},
      {"adamoe_requests_total", "counter"},
      {"adamoe_prompt_tokens_total", "counter"},
      {"adamoe_cached_prompt_tokens_total", "counter"},
      {"adamoe_generated_tokens_total", "counter"},
      {"adamoe_preemptions_total", "counter"},
      {"adamoe_log_lines_dropped_total", "counter"},
      {"adamoe_expert_slots_total", "counter"},
      {"adamoe_layer_expert_slots_total", "counter"},
      {"adamoe_expert_tokens_total", "counter"},
      {"adamoe_expert_flops_executed_total", "counter"},
      {"adamoe_expert_flops_saved_total", "counter"},
      {"adamoe_expert_flops_baseline_total", "counter"},
      {"adamoe_other_flops_total", "counter"},
      {"adamoe_experts_per_token", "histogram"},
      {"adamoe_time_to_first_token_seconds", "histogram"},
      {"adamoe_inter_token_latency_seconds", "histogram"},
      {"adamoe_request_duration_seconds", "histogram"},
      {"adamoe_request_queue_time_seconds", "histogram"},
      {"adamoe_request_prompt_tokens", "histogram"},
      {"adamoe_request_generated_tokens", "histogram"},
      {"adamoe_step_tokens", "histogram"},
      {"adamoe_step_duration_seconds", "histogram"},
      {"adamoe_step_overhead_seconds", "histogram"},
      {"adamoe_grammar_cache_hits_total", "counter"},
      {"adamoe_grammar_cache_misses_total", "counter"},
      {"adamoe_grammar_compile_seconds", "histogram"},
  };
  EXPECT_EQ(Read(ServerMetrics(options, &clock)).types, expected);
  auto without_experts = expected;
  without_experts.erase("adamoe_expert_tokens_total");
  EXPECT_EQ(Read(ServerMetrics(SmallOptions(), &clock)).types, without_experts);
}

TEST(ServerMetricsTest, EveryCombinationOfLabelsStandsAtZero) {
  FakeClock clock;
  auto options = SmallOptions();
  options.per_expert_metrics = true;
  const Scrape scrape = Read(ServerMetrics(options, &clock));
  for (const auto& [sample, value] : scrape.samples) {
    const bool info = sample.find("_info") != std::string::npos;
    EXPECT_EQ(value, info ? 1 : 0) << sample;
  }
  EXPECT_THAT(scrape.LabelsOf("adamoe_requests_total"),
              UnorderedElementsAre("{outcome=\"ok\"}", "{outcome=\"cancelled\"}",
                                   "{outcome=\"deadline\"}", "{outcome=\"rejected\"}",
                                   "{outcome=\"invalid\"}", "{outcome=\"error\"}"));
  EXPECT_THAT(scrape.LabelsOf("adamoe_expert_slots_total"),
              UnorderedElementsAre(
                  "{kind=\"true\",phase=\"prefill\"}", "{kind=\"null\",phase=\"prefill\"}",
                  "{kind=\"dropped\",phase=\"prefill\"}", "{kind=\"true\",phase=\"decode\"}",
                  "{kind=\"null\",phase=\"decode\"}", "{kind=\"dropped\",phase=\"decode\"}"));
  EXPECT_THAT(
      scrape.LabelsOf("adamoe_layer_expert_slots_total"),
      UnorderedElementsAre("{kind=\"true\",layer=\"0\"}", "{kind=\"null\",layer=\"0\"}",
                           "{kind=\"dropped\",layer=\"0\"}", "{kind=\"true\",layer=\"1\"}",
                           "{kind=\"null\",layer=\"1\"}", "{kind=\"dropped\",layer=\"1\"}"));
  for (const char* name : {"executed", "saved", "baseline"}) {
    EXPECT_THAT(scrape.LabelsOf(absl::StrCat("adamoe_expert_flops_", name, "_total")),
                UnorderedElementsAre("{phase=\"prefill\"}", "{phase=\"decode\"}"));
  }
  EXPECT_THAT(
      scrape.LabelsOf("adamoe_other_flops_total"),
      UnorderedElementsAre(
          "{part=\"projections\",phase=\"prefill\"}", "{part=\"attention\",phase=\"prefill\"}",
          "{part=\"router\",phase=\"prefill\"}", "{part=\"lm_head\",phase=\"prefill\"}",
          "{part=\"projections\",phase=\"decode\"}", "{part=\"attention\",phase=\"decode\"}",
          "{part=\"router\",phase=\"decode\"}", "{part=\"lm_head\",phase=\"decode\"}"));
  EXPECT_EQ(scrape.LabelsOf("adamoe_expert_tokens_total").size(), 6);
  EXPECT_TRUE(scrape.samples.count("adamoe_expert_tokens_total{expert=\"2\",layer=\"1\"}"));
  EXPECT_THAT(scrape.LabelsOf("adamoe_kv_cache_info"),
              ElementsAre("{block_size=\"16\",num_blocks=\"8\"}"));
  EXPECT_THAT(
      scrape.LabelsOf("adamoe_step_duration_seconds_count"),
      UnorderedElementsAre("{phase=\"prefill\"}", "{phase=\"decode\"}", "{phase=\"mixed\"}"));
}

TEST(ServerMetricsTest, BucketsReachAMinuteAndKExperts) {
  FakeClock clock;
  const Scrape scrape = Read(ServerMetrics(SmallOptions(), &clock));
  for (const char* name : {"time_to_first_token_seconds", "inter_token_latency_seconds",
                           "request_duration_seconds", "request_queue_time_seconds"}) {
    EXPECT_TRUE(scrape.samples.count(absl::StrCat("adamoe_", name, "_bucket{le=\"60\"}"))) << name;
  }
  // 0, 0.25 ... 3 and +Inf.
  EXPECT_EQ(scrape.LabelsOf("adamoe_experts_per_token_bucket").size(), 14);
  EXPECT_TRUE(scrape.samples.count("adamoe_experts_per_token_bucket{le=\"0\"}"));
  EXPECT_TRUE(scrape.samples.count("adamoe_experts_per_token_bucket{le=\"0.25\"}"));
  EXPECT_TRUE(scrape.samples.count("adamoe_experts_per_token_bucket{le=\"3\"}"));
}

TEST(ServerMetricsTest, StepsAddUp) {
  FakeClock clock;
  auto options = SmallOptions();
  options.per_expert_metrics = true;
  ServerMetrics metrics(options, &clock);
  // Five prompt positions and one decoded one, of two layers and k = 3: 36 slots.
  StepReport report = {.phase = StepPhase::kMixed,
                       .duration = absl::Milliseconds(20),
                       .num_tokens = 6,
                       .num_prompt_tokens = 5,
                       .num_cached_prompt_tokens = 16,
                       .num_generated_tokens = 2,
                       .num_preemptions = 1,
                       .prefill_slots = {14, 15, 1},
                       .decode_slots = {4, 2, 0},
                       .prefill_work = {5, 15, 1},
                       .decode_work = {1, 9, 1},
                       .layer_slots = {{10, 8, 0}, {8, 9, 1}},
                       .expert_tokens = {{5, 3, 2}, {1, 0, 7}}};
  metrics.OnStep(report);
  report.overhead = absl::Milliseconds(3);
  metrics.OnStep(report);
  const auto samples = Read(metrics).samples;
  EXPECT_EQ(samples.at("adamoe_step_overhead_seconds_count"), 1);
  EXPECT_NEAR(samples.at("adamoe_step_overhead_seconds_sum"), 0.003, 1e-9);
  EXPECT_EQ(samples.at("adamoe_prompt_tokens_total"), 2 * (5 + 16));
  EXPECT_EQ(samples.at("adamoe_cached_prompt_tokens_total"), 32);
  EXPECT_EQ(samples.at("adamoe_generated_tokens_total"), 4);
  EXPECT_EQ(samples.at("adamoe_preemptions_total"), 2);
  EXPECT_EQ(samples.at("adamoe_expert_slots_total{kind=\"true\",phase=\"prefill\"}"), 28);
  EXPECT_EQ(samples.at("adamoe_expert_slots_total{kind=\"null\",phase=\"prefill\"}"), 30);
  EXPECT_EQ(samples.at("adamoe_expert_slots_total{kind=\"dropped\",phase=\"prefill\"}"), 2);
  EXPECT_EQ(samples.at("adamoe_expert_slots_total{kind=\"true\",phase=\"decode\"}"), 8);
  EXPECT_EQ(samples.at("adamoe_layer_expert_slots_total{kind=\"null\",layer=\"1\"}"), 18);
  EXPECT_EQ(samples.at("adamoe_expert_tokens_total{expert=\"2\",layer=\"1\"}"), 14);
  // 600 per slot; the plain model would run two of each position's three picks.
  EXPECT_EQ(samples.at("adamoe_expert_flops_executed_total{phase=\"prefill\"}"), 28 * 600);
  EXPECT_EQ(samples.at("adamoe_expert_flops_saved_total{phase=\"prefill\"}"), 32 * 600);
  EXPECT_EQ(samples.at("adamoe_expert_flops_baseline_total{phase=\"prefill\"}"), 2 * 10 * 2 * 600);
  EXPECT_EQ(samples.at("adamoe_expert_flops_executed_total{phase=\"decode\"}"), 8 * 600);
  EXPECT_EQ(samples.at("adamoe_expert_flops_baseline_total{phase=\"decode\"}"), 2 * 2 * 2 * 600);
  const auto other = [&](const char* part, const char* phase) {
    return samples.at(
        absl::StrCat("adamoe_other_flops_total{part=\"", part, "\",phase=\"", phase, "\"}"));
  };
  EXPECT_EQ(other("projections", "prefill"), 2 * 5 * 100);
  EXPECT_EQ(other("attention", "prefill"), 2 * 15 * 7);
  EXPECT_EQ(other("router", "prefill"), 2 * 5 * 10);
  EXPECT_EQ(other("lm_head", "prefill"), 2 * 1 * 1000);
  EXPECT_EQ(other("projections", "decode"), 2 * 1 * 100);
  EXPECT_EQ(other("attention", "decode"), 2 * 9 * 7);
  EXPECT_EQ(other("router", "decode"), 2 * 1 * 10);
  EXPECT_EQ(other("lm_head", "decode"), 2 * 1 * 1000);
  EXPECT_EQ(samples.at("adamoe_step_tokens_sum"), 12);
  EXPECT_EQ(samples.at("adamoe_step_duration_seconds_count{phase=\"mixed\"}"), 2);
  EXPECT_NEAR(samples.at("adamoe_step_duration_seconds_sum{phase=\"mixed\"}"), 0.04, 1e-9);
  EXPECT_EQ(samples.at("adamoe_step_duration_seconds_count{phase=\"decode\"}"), 0);
}

TEST(ServerMetricsTest, RequestsAreCountedByOutcome) {
  FakeClock clock;
  ServerMetrics metrics(SmallOptions(), &clock);
  metrics.CountRequest(RequestOutcome::kOk);
  metrics.CountRequest(RequestOutcome::kOk);
  metrics.CountRequest(RequestOutcome::kDeadline);
  metrics.CountRequest(RequestOutcome::kError);
  metrics.ObserveRequest(absl::Seconds(2), 100, 7);
  const auto samples = Read(metrics).samples;
  EXPECT_EQ(samples.at("adamoe_requests_total{outcome=\"ok\"}"), 2);
  EXPECT_EQ(samples.at("adamoe_requests_total{outcome=\"deadline\"}"), 1);
  EXPECT_EQ(samples.at("adamoe_requests_total{outcome=\"error\"}"), 1);
  EXPECT_EQ(samples.at("adamoe_requests_total{outcome=\"cancelled\"}"), 0);
  EXPECT_EQ(samples.at("adamoe_request_duration_seconds_sum"), 2);
  EXPECT_EQ(samples.at("adamoe_request_prompt_tokens_sum"), 100);
  EXPECT_EQ(samples.at("adamoe_request_generated_tokens_sum"), 7);
}

TEST(ServerMetricsTest, LoadShowsInGaugesAndReport) {
  FakeClock clock;
  ServerMetrics metrics(SmallOptions(), &clock);
  EXPECT_EQ(metrics.load().num_free_blocks, 8);
  metrics.OnLoad({.num_waiting = 3, .num_running = 2, .num_blocks = 8, .num_free_blocks = 6});
  auto samples = Read(metrics).samples;
  EXPECT_EQ(samples.at("adamoe_requests_waiting"), 3);
  EXPECT_EQ(samples.at("adamoe_requests_running"), 2);
  EXPECT_EQ(samples.at("adamoe_kv_cache_usage_ratio"), 0.25);
  EXPECT_EQ(metrics.load().num_running, 2);
  metrics.SetWaiting(4);
  EXPECT_EQ(Read(metrics).samples.at("adamoe_requests_waiting"), 4);
}

TEST(ServerMetricsTest, TokensReachTheirHistograms) {
  FakeClock clock;
  ServerMetrics metrics(SmallOptions(), &clock);
  metrics.OnAdmitted(absl::Milliseconds(2));
  metrics.OnFirstToken(absl::Milliseconds(250));
  metrics.OnNextToken(absl::Milliseconds(10));
  metrics.OnTokenExperts(1.5);
  metrics.OnTokenExperts(0.5);
  const auto samples = Read(metrics).samples;
  EXPECT_EQ(samples.at("adamoe_request_queue_time_seconds_count"), 1);
  EXPECT_NEAR(samples.at("adamoe_time_to_first_token_seconds_sum"), 0.25, 1e-9);
  EXPECT_NEAR(samples.at("adamoe_inter_token_latency_seconds_sum"), 0.01, 1e-9);
  EXPECT_EQ(samples.at("adamoe_experts_per_token_bucket{le=\"0.5\"}"), 1);
  EXPECT_EQ(samples.at("adamoe_experts_per_token_bucket{le=\"1.5\"}"), 2);
  EXPECT_DOUBLE_EQ(metrics.recent().experts_per_token, 1.0);
}

TEST(ServerMetricsTest, TellsOfTheOperatorsFiles) {
  FakeClock clock;
  ServerMetrics metrics(SmallOptions(), &clock);
  metrics.SetDroppedLogLines(7);
  metrics.SetDroppedLogLines(9);
  metrics.SetCertificateExpiry(absl::FromUnixSeconds(1900000000));
  metrics.SetCertificateExpiry(absl::FromUnixSeconds(2000000000));
  metrics.SetReloadSuccessful("tls", false);
  metrics.SetReloadSuccessful("auth_tokens", false);
  metrics.SetReloadSuccessful("auth_tokens", true);
  const auto samples = Read(metrics).samples;
  EXPECT_EQ(samples.at("adamoe_log_lines_dropped_total"), 9);
  EXPECT_EQ(samples.at("adamoe_tls_certificate_expiry_timestamp_seconds"), 2000000000);
  EXPECT_EQ(samples.at("adamoe_last_reload_successful{what=\"tls\"}"), 0);
  EXPECT_EQ(samples.at("adamoe_last_reload_successful{what=\"auth_tokens\"}"), 1);
}

}  // namespace
}  // namespace adamoe
