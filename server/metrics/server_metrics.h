// Every metric the server exports, registered once, at construction; the names are the public ones
// of README.md.
//
// Counters stand at 0 for every combination of labels from the start, so that rates and dashboards
// need no first event. Thread-safe: the executor reports steps, rpc/ counts requests, scrapes read
// at any time.
#ifndef ADAMOE_SERVER_METRICS_SERVER_METRICS_H_
#define ADAMOE_SERVER_METRICS_SERVER_METRICS_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/metrics/expert_flops.h"
#include "server/metrics/load_window.h"
#include "server/metrics/other_flops.h"
#include "server/request/grammar_observer.h"
#include "server/request/step_observer.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
class Registry;
}  // namespace prometheus

namespace adamoe {

// How a Generate or Score ended. `rejected`: the queue was full or closed, or its token had as many
// requests as it may have; `invalid`: the request was at fault, or came without a valid token.
enum class RequestOutcome { kOk, kCancelled, kDeadline, kRejected, kInvalid, kError };
inline constexpr int kNumRequestOutcomes = 6;

// As the label has it.
const char* NameOf(RequestOutcome outcome);

class ServerMetrics final : public StepObserver, public GrammarObserver {
 public:
  struct Options {
    std::map<std::string, std::string> model_labels = {};  // of model_info
    std::map<std::string, std::string> build_labels = {};  // of build_info
    int32_t num_layers = 0;
    int32_t num_experts = 0;  // true ones
    int32_t kv_block_size = 0;
    int32_t num_kv_blocks = 0;
    ExpertFlopsRates flops = {};
    OtherFlopsRates other_flops = {};
    bool per_expert_metrics = false;  // expert_tokens_total: num_layers x num_experts series
  };

  // `clock` must outlive this. REQUIRES: flops.experts_per_token >= 1.
  ServerMetrics(const Options& options, const Clock* clock);
  ~ServerMetrics() override;

  // What a scrape collects. Lives as long as anyone holds it.
  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

  // The same, as it is now, in Prometheus' text format 0.0.4.
  std::string Text() const;

  // Every Generate or Score that reached the service, once.
  void CountRequest(RequestOutcome outcome);
  // One that was accepted has ended, however it ended.
  void ObserveRequest(absl::Duration duration, uint32_t num_prompt_tokens,
                      uint32_t num_generated_tokens);
  // Requests that wait right now; OnLoad says it too, but only once per step.
  void SetWaiting(uint32_t num_waiting);

  // Lines the log has dropped since the start.
  void SetDroppedLogLines(uint64_t count);
  // When the certificate that clients are greeted with expires. Exported from the first call on.
  void SetCertificateExpiry(absl::Time expiry);
  // Whether the last attempt to read the files of `what` ("tls", "auth_tokens") again went well.
  // Exported for each from its first call on.
  void SetReloadSuccessful(const std::string& what, bool successful);

  // The last report, and the means over the last seconds.
  LoadReport load() const ABSL_LOCKS_EXCLUDED(mu_);
  LoadWindow::Means recent() const { return window_.Get(); }

  void OnStep(const StepReport& report) override;
  void OnLoad(const LoadReport& load) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnFirstToken(absl::Duration since_submit) override;
  void OnNextToken(absl::Duration since_previous) override;
  void OnTokenExperts(double mean_experts_per_layer) override;
  void OnAdmitted(absl::Duration queue_time) override;

  void OnGrammarLookup(bool hit) override;
  void OnGrammarCompiled(absl::Duration duration) override;

 private:
  struct KindCounters {
    prometheus::Counter* true_slots;
    prometheus::Counter* null_slots;
    prometheus::Counter* dropped_slots;
    void Add(const SlotCounts& slots) const;
  };
  struct PhaseCounters {
    KindCounters slots;
    prometheus::Counter* flops_executed;
    prometheus::Counter* flops_saved;
    prometheus::Counter* flops_baseline;
    prometheus::Counter* projection_flops;
    prometheus::Counter* attention_flops;
    prometheus::Counter* router_flops;
    prometheus::Counter* lm_head_flops;
  };

  void RegisterInfo(const Options& options);
  void RegisterLoad();
  void RegisterRequests();
  void RegisterExperts(const Options& options);
  void RegisterTimes();
  void RegisterGrammars();
  void AddPhase(const SlotCounts& slots, const OtherWork& work, const PhaseCounters& counters);

  const ExpertFlopsRates flops_;
  const OtherFlopsRates other_flops_;
  const std::shared_ptr<prometheus::Registry> registry_;
  LoadWindow window_;

  // Set at construction; what they point at is thread-safe and owned by registry_.
  prometheus::Gauge* requests_waiting_;
  prometheus::Gauge* requests_running_;
  prometheus::Gauge* kv_cache_usage_;
  std::array<prometheus::Counter*, kNumRequestOutcomes> requests_;
  prometheus::Counter* prompt_tokens_;
  prometheus::Counter* cached_prompt_tokens_;
  prometheus::Counter* generated_tokens_;
  prometheus::Counter* preemptions_;
  PhaseCounters prefill_;
  PhaseCounters decode_;
  std::vector<KindCounters> layers_;  // [num_layers]
  std::vector<std::vector<prometheus::Counter*>>
      expert_tokens_;  // [num_layers][num_experts] or empty
  prometheus::Histogram* experts_per_token_;
  prometheus::Histogram* time_to_first_token_;
  prometheus::Histogram* inter_token_latency_;
  prometheus::Histogram* request_duration_;
  prometheus::Histogram* request_queue_time_;
  prometheus::Histogram* request_prompt_tokens_;
  prometheus::Histogram* request_generated_tokens_;
  prometheus::Histogram* step_tokens_;
  std::array<prometheus::Histogram*, 3> step_duration_;  // by StepPhase
  prometheus::Histogram* step_overhead_;
  prometheus::Counter* dropped_log_lines_;
  prometheus::Counter* grammar_cache_hits_;
  prometheus::Counter* grammar_cache_misses_;
  prometheus::Histogram* grammar_compile_;

  mutable absl::Mutex mu_;
  LoadReport load_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_METRICS_SERVER_METRICS_H_
