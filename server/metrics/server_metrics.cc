#include "server/metrics/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <string>

namespace adamoe {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Registry;
using Labels = std::map<std::string, std::string>;
using Buckets = Histogram::BucketBoundaries;

Family<Counter>& CounterFamily(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

Gauge& AddGauge(Registry& registry, const char* name, const char* help, const Labels& labels = {}) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

Family<Histogram>& HistogramFamily(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

// Times from a millisecond to a minute.
const Buckets& LatencyBuckets() {
  static const Buckets buckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                  0.5,   1,      2.5,   5,    10,    20,   30,  60};
  return buckets;
}

// Times from ten microseconds to a second.
const Buckets& OverheadBuckets() {
  static const Buckets buckets = {0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005,
                                  0.001,   0.0025,   0.005,   0.01,   0.025,   0.05,
                                  0.1,     0.25,     0.5,     1};
  return buckets;
}

const Buckets& TokenBuckets() {
  static const Buckets buckets = {1,   2,   4,    8,    16,   32,   64,    128,
                                  256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  return buckets;
}

// 0, 0.25 ... up to k.
Buckets ExpertBuckets(uint32_t experts_per_token) {
  Buckets buckets;
  for (uint32_t quarter = 0; quarter <= 4 * experts_per_token; ++quarter) {
    buckets.push_back(quarter / 4.0);
  }
  return buckets;
}

constexpr std::array<const char*, kNumRequestOutcomes> kOutcomes = {
    "ok", "cancelled", "deadline", "rejected", "invalid", "error"};

}  // namespace

const char* NameOf(RequestOutcome outcome) { return kOutcomes[static_cast<int>(outcome)]; }

ServerMetrics::ServerMetrics(const Options& options, const Clock* clock)
    : flops_(options.flops),
      other_flops_(options.other_flops),
      registry_(std::make_shared<Registry>()),
      window_(clock) {
  RegisterInfo(options);
  RegisterLoad();
  RegisterRequests();
  RegisterExperts(options);
  RegisterTimes();
  RegisterGrammars();
  load_.num_blocks = options.num_kv_blocks;
  load_.num_free_blocks = options.num_kv_blocks;
}

ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::RegisterInfo(const Options& options) {
  AddGauge(*registry_, "adamoe_model_info", "The served model, in labels.", options.model_labels)
      .Set(1);
  AddGauge(*registry_, "adamoe_build_info", "The server, in labels.", options.build_labels).Set(1);
  AddGauge(*registry_, "adamoe_kv_cache_info",
           "The KV cache: positions per block and number of blocks, in labels.",
           {{"block_size", std::to_string(options.kv_block_size)},
            {"num_blocks", std::to_string(options.num_kv_blocks)}})
      .Set(1);
}

void ServerMetrics::RegisterLoad() {
  requests_waiting_ = &AddGauge(*registry_, "adamoe_requests_waiting",
                                "Requests that have not been scheduled yet.");
  requests_running_ =
      &AddGauge(*registry_, "adamoe_requests_running", "Requests in the running batch.");
  kv_cache_usage_ =
      &AddGauge(*registry_, "adamoe_kv_cache_usage_ratio",
                "Share of KV cache blocks in use, 0 to 1; blocks kept only for the prefix cache "
                "count as free.");
}

void ServerMetrics::RegisterRequests() {
  auto& requests =
      CounterFamily(*registry_, "adamoe_requests_total",
                    "Generate and Score requests that reached the service, by how they ended. "
                    "rejected: for want of room; invalid: the request's own fault, a missing or "
                    "unknown token among them.");
  for (int i = 0; i < kNumRequestOutcomes; ++i) {
    requests_[i] = &requests.Add({{"outcome", kOutcomes[i]}});
  }
  const auto counter = [this](const char* name, const char* help) {
    return &CounterFamily(*registry_, name, help).Add({});
  };
  prompt_tokens_ = counter("adamoe_prompt_tokens_total",
                           "Prompt tokens taken in, those from the prefix cache included.");
  cached_prompt_tokens_ = counter("adamoe_cached_prompt_tokens_total",
                                  "Prompt tokens taken from the prefix cache: not run.");
  generated_tokens_ = counter("adamoe_generated_tokens_total", "Tokens generated.");
  preemptions_ = counter("adamoe_preemptions_total",
                         "Times a running request gave up its KV cache blocks to another.");
  dropped_log_lines_ = counter("adamoe_log_lines_dropped_total",
                               "Log lines dropped because nobody read standard error.");
  request_prompt_tokens_ = &HistogramFamily(*registry_, "adamoe_request_prompt_tokens",
                                            "Prompt tokens of a request that has ended.")
                                .Add({}, TokenBuckets());
  request_generated_tokens_ = &HistogramFamily(*registry_, "adamoe_request_generated_tokens",
                                               "Generated tokens of a request that has ended.")
                                   .Add({}, TokenBuckets());
}

void ServerMetrics::RegisterExperts(const Options& options) {
  auto& slots = CounterFamily(*registry_, "adamoe_expert_slots_total",
                              "Router picks of processed positions, over all layers: true (run), "
                              "null (skipped) or dropped (cut by a request's own limit).");
  auto& executed = CounterFamily(*registry_, "adamoe_expert_flops_executed_total",
                                 "FLOPs of the expert slots run.");
  auto& saved = CounterFamily(*registry_, "adamoe_expert_flops_saved_total",
                              "FLOPs the null and dropped expert slots would have cost.");
  auto& baseline =
      CounterFamily(*registry_, "adamoe_expert_flops_baseline_total",
                    "Expert FLOPs the plain top-2 model would have cost for the same positions.");
  auto& other = CounterFamily(*registry_, "adamoe_other_flops_total",
                              "FLOPs run outside the experts, by part: projections and attention "
                              "(scores and sums), router, lm_head.");
  const auto kinds = [](Family<Counter>& family, Labels labels) {
    const auto kind = [&](const char* name) {
      labels["kind"] = name;
      return &family.Add(labels);
    };
    return KindCounters{kind("true"), kind("null"), kind("dropped")};
  };
  const auto phase = [&](const char* name) {
    const Labels labels = {{"phase", name}};
    const auto part = [&](const char* part_name) {
      return &other.Add({{"phase", name}, {"part", part_name}});
    };
    return PhaseCounters{kinds(slots, labels),  &executed.Add(labels), &saved.Add(labels),
                         &baseline.Add(labels), part("projections"),   part("attention"),
                         part("router"),        part("lm_head")};
  };
  prefill_ = phase("prefill");
  decode_ = phase("decode");

  auto& layer_slots = CounterFamily(*registry_, "adamoe_layer_expert_slots_total",
                                    "Router picks of processed positions, by layer.");
  for (int32_t layer = 0; layer < options.num_layers; ++layer) {
    layers_.push_back(kinds(layer_slots, {{"layer", std::to_string(layer)}}));
  }
  experts_per_token_ = &HistogramFamily(*registry_, "adamoe_experts_per_token",
                                        "True experts per layer of a generated token, mean over "
                                        "its layers.")
                            .Add({}, ExpertBuckets(flops_.experts_per_token));
  if (!options.per_expert_metrics) return;
  auto& expert_tokens = CounterFamily(*registry_, "adamoe_expert_tokens_total",
                                      "Positions that each true expert ran.");
  expert_tokens_.resize(options.num_layers);
  for (int32_t layer = 0; layer < options.num_layers; ++layer) {
    for (int32_t expert = 0; expert < options.num_experts; ++expert) {
      expert_tokens_[layer].push_back(&expert_tokens.Add(
          {{"layer", std::to_string(layer)}, {"expert", std::to_string(expert)}}));
    }
  }
}

void ServerMetrics::RegisterTimes() {
  const auto latency = [this](const char* name, const char* help) {
    return &HistogramFamily(*registry_, name, help).Add({}, LatencyBuckets());
  };
  time_to_first_token_ = latency("adamoe_time_to_first_token_seconds",
                                 "From a request's submission to its first token.");
  inter_token_latency_ =
      latency("adamoe_inter_token_latency_seconds", "From one token of a request to the next.");
  request_duration_ =
      latency("adamoe_request_duration_seconds", "From a request's arrival to its end.");
  request_queue_time_ = latency("adamoe_request_queue_time_seconds",
                                "From a request's submission to being scheduled.");
  step_tokens_ =
      &HistogramFamily(*registry_, "adamoe_step_tokens", "Positions run in a step of the executor.")
           .Add({}, TokenBuckets());
  auto& step_duration = HistogramFamily(*registry_, "adamoe_step_duration_seconds",
                                        "Duration of a step of the executor, by what it ran.");
  constexpr std::array<const char*, 3> kPhases = {"prefill", "decode", "mixed"};
  for (size_t i = 0; i < kPhases.size(); ++i) {
    step_duration_[i] = &step_duration.Add({{"phase", kPhases[i]}}, LatencyBuckets());
  }
  step_overhead_ = &HistogramFamily(*registry_, "adamoe_step_overhead_seconds",
                                    "Between two forward passes that follow each other: planning, "
                                    "sampling, handing tokens over.")
                        .Add({}, OverheadBuckets());
}

void ServerMetrics::RegisterGrammars() {
  const auto counter = [this](const char* name, const char* help) {
    return &CounterFamily(*registry_, name, help).Add({});
  };
  grammar_cache_hits_ = counter("adamoe_grammar_cache_hits_total",
                                "Requests whose form (schema, grammar ...) was known already.");
  grammar_cache_misses_ = counter("adamoe_grammar_cache_misses_total",
                                  "Requests that waited for their form to be worked out.");
  grammar_compile_ = &HistogramFamily(*registry_, "adamoe_grammar_compile_seconds",
                                      "Time to work out a form, or to refuse it.")
                          .Add({}, LatencyBuckets());
}

std::string ServerMetrics::Text() const {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, registry_->Collect());
  return text.str();
}

void ServerMetrics::KindCounters::Add(const SlotCounts& slots) const {
  true_slots->Increment(static_cast<double>(slots.true_slots));
  null_slots->Increment(static_cast<double>(slots.null_slots));
  dropped_slots->Increment(static_cast<double>(slots.dropped_slots));
}

void ServerMetrics::AddPhase(const SlotCounts& slots, const OtherWork& work,
                             const PhaseCounters& counters) {
  counters.slots.Add(slots);
  const ExpertFlops flops = flops_.Of(slots);
  counters.flops_executed->Increment(static_cast<double>(flops.executed));
  counters.flops_saved->Increment(static_cast<double>(flops.saved));
  counters.flops_baseline->Increment(static_cast<double>(flops.baseline));
  const OtherFlops other = other_flops_.Of(work);
  counters.projection_flops->Increment(static_cast<double>(other.projections));
  counters.attention_flops->Increment(static_cast<double>(other.attention));
  counters.router_flops->Increment(static_cast<double>(other.router));
  counters.lm_head_flops->Increment(static_cast<double>(other.lm_head));
}

void ServerMetrics::CountRequest(RequestOutcome outcome) {
  requests_[static_cast<int>(outcome)]->Increment();
}

void ServerMetrics::ObserveRequest(absl::Duration duration, uint32_t num_prompt_tokens,
                                   uint32_t num_generated_tokens) {
  request_duration_->Observe(absl::ToDoubleSeconds(duration));
  request_prompt_tokens_->Observe(num_prompt_tokens);
  request_generated_tokens_->Observe(num_generated_tokens);
}

void ServerMetrics::SetWaiting(uint32_t num_waiting) { requests_waiting_->Set(num_waiting); }

void ServerMetrics::SetDroppedLogLines(uint64_t count) {
  dropped_log_lines_->Increment(static_cast<double>(count) - dropped_log_lines_->Value());
}

void ServerMetrics::SetCertificateExpiry(absl::Time expiry) {
  AddGauge(*registry_, "adamoe_tls_certificate_expiry_timestamp_seconds",
           "When the server's certificate expires, in seconds since 1970.")
      .Set(absl::ToDoubleSeconds(expiry - absl::UnixEpoch()));
}

void ServerMetrics::SetReloadSuccessful(const std::string& what, bool successful) {
  AddGauge(*registry_, "adamoe_last_reload_successful",
           "1 where the files in use are those on disk; 0 where these cannot be used, and the last "
           "good ones still are.",
           {{"what", what}})
      .Set(successful ? 1 : 0);
}

LoadReport ServerMetrics::load() const {
  absl::MutexLock lock(&mu_);
  return load_;
}

void ServerMetrics::OnStep(const StepReport& report) {
  AddPhase(report.prefill_slots, report.prefill_work, prefill_);
  AddPhase(report.decode_slots, report.decode_work, decode_);
  for (size_t layer = 0; layer < layers_.size() && layer < report.layer_slots.size(); ++layer) {
    layers_[layer].Add(report.layer_slots[layer]);
  }
  for (size_t layer = 0; layer < expert_tokens_.size() && layer < report.expert_tokens.size();
       ++layer) {
    const auto& rows = report.expert_tokens[layer];
    for (size_t i = 0; i < expert_tokens_[layer].size() && i < rows.size(); ++i) {
      expert_tokens_[layer][i]->Increment(rows[i]);
    }
  }
  prompt_tokens_->Increment(report.num_prompt_tokens + report.num_cached_prompt_tokens);
  cached_prompt_tokens_->Increment(report.num_cached_prompt_tokens);
  generated_tokens_->Increment(report.num_generated_tokens);
  preemptions_->Increment(report.num_preemptions);
  step_tokens_->Observe(report.num_tokens);
  step_duration_[static_cast<int>(report.phase)]->Observe(absl::ToDoubleSeconds(report.duration));
  if (report.overhead.has_value()) step_overhead_->Observe(absl::ToDoubleSeconds(*report.overhead));
}

void ServerMetrics::OnLoad(const LoadReport& load) {
  requests_waiting_->Set(load.num_waiting);
  requests_running_->Set(load.num_running);
  const uint32_t used = load.num_blocks - load.num_free_blocks;
  kv_cache_usage_->Set(load.num_blocks == 0 ? 0.0 : static_cast<double>(used) / load.num_blocks);
  absl::MutexLock lock(&mu_);
  load_ = load;
}

void ServerMetrics::OnFirstToken(absl::Duration since_submit) {
  time_to_first_token_->Observe(absl::ToDoubleSeconds(since_submit));
}

void ServerMetrics::OnNextToken(absl::Duration since_previous) {
  inter_token_latency_->Observe(absl::ToDoubleSeconds(since_previous));
}

void ServerMetrics::OnTokenExperts(double mean_experts_per_layer) {
  experts_per_token_->Observe(mean_experts_per_layer);
  window_.AddToken(mean_experts_per_layer);
}

void ServerMetrics::OnAdmitted(absl::Duration queue_time) {
  request_queue_time_->Observe(absl::ToDoubleSeconds(queue_time));
}

void ServerMetrics::OnGrammarLookup(bool hit) {
  (hit ? grammar_cache_hits_ : grammar_cache_misses_)->Increment();
}

void ServerMetrics::OnGrammarCompiled(absl::Duration duration) {
  grammar_compile_->Observe(absl::ToDoubleSeconds(duration));
}

}  // namespace adamoe
