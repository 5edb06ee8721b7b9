// adamoe_server: flags, wiring and shutdown.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/status_macros.h"
#include "server/executor/executor.h"
#include "server/flags.h"
#include "server/loaded_model.h"
#include "server/metrics/exposer.h"
#include "server/metrics/server_metrics.h"
#include "server/queue/request_queue.h"
#include "server/rpc/rpc_server.h"
#include "server/shutdown_signal.h"
#include "server/structured/fork_server.h"
#include "server/structured/grammar_service.h"
#include "server/structured/vocabulary.h"

namespace adamoe {
namespace {

// How long calls have to hand over what the drained executor has left them.
constexpr absl::Duration kFlushTimeout = absl::Seconds(3);

void SetUpLog(const std::string& level) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("adamoe_server"));
  spdlog::set_level(spdlog::level::from_str(level));
}

ServerMetrics::Options MetricsOptions(const ServerFlags& flags, const LoadedModel& loaded) {
  const ServedModel& info = loaded.info;
  const ModelDimensions& dims = loaded.model->dimensions();
  return {.model_labels = {{"model_name", info.name},
                           {"architecture", info.architecture},
                           {"num_experts", std::to_string(info.num_experts)},
                           {"num_null_experts", std::to_string(info.num_null_experts)},
                           {"experts_per_token", std::to_string(info.experts_per_token)},
                           {"num_layers", std::to_string(info.num_layers)},
                           {"max_context_tokens", std::to_string(info.max_context_tokens)},
                           {"weight_dtype", info.weight_dtype},
                           {"activation_dtype", info.activation_dtype},
                           {"device", info.device}},
          .build_labels = {{"version", info.server_version}, {"compiler", __VERSION__}},
          .num_layers = dims.num_layers,
          .num_experts = dims.num_experts,
          .kv_block_size = dims.kv_block_size,
          .num_kv_blocks = dims.num_kv_blocks,
          .flops = info.flops,
          .per_expert_metrics = flags.per_expert_metrics};
}

Executor::Options ExecutorOptions(const ServerFlags& flags) {
  Executor::Options options;
  options.max_batch_tokens = flags.max_batch_tokens;
  options.max_running_requests = flags.max_running_requests;
  options.prefix_caching = flags.prefix_caching;
  options.prefill_chunk_tokens = flags.prefill_chunk_tokens;
  return options;
}

GrammarService::Options GrammarOptions(const ServerFlags& flags) {
  GrammarService::Options options;
  options.limits.compile_timeout = flags.grammar_compile_timeout;
  options.cache_bytes = static_cast<size_t>(flags.grammar_cache_bytes);
  return options;
}

absl::StatusOr<std::unique_ptr<Exposer>> ServeMetrics(const std::string& address,
                                                      const ServerMetrics& metrics) {
  if (address.empty()) return nullptr;
  ASSIGN_OR_RETURN(auto exposer, Exposer::Start(address, metrics.registry()));
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(address));
  spdlog::info("metrics at http://{}:{}/metrics", endpoint.host, exposer->port());
  return exposer;
}

// The one line of standard output that says where the service is.
absl::Status Announce(const std::string& address, int port) {
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(address));
  std::printf("adamoe_server: listening on %s:%d\n", endpoint.host.c_str(), port);
  std::fflush(stdout);
  return absl::OkStatus();
}

void ShutDown(absl::Duration drain_timeout, RpcServer& rpc_server, Executor& executor) {
  rpc_server.StopServing();
  executor.Drain(drain_timeout);
  rpc_server.Shutdown(kFlushTimeout);
}

absl::Status Serve(const ServerFlags& flags) {
  // While there is one thread.
  ASSIGN_OR_RETURN(auto fork_server, ForkServer::Start());
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(flags));
  // Each may use the ones before it, and goes before them.
  const RealClock clock;
  ServerMetrics metrics(MetricsOptions(flags, loaded), &clock);
  RequestQueue queue(&clock, flags.max_queued_requests);
  Executor executor(ExecutorOptions(flags), loaded.model.get(), &queue, &metrics, &clock);
  ASSIGN_OR_RETURN(const auto exposer, ServeMetrics(flags.metrics_listen, metrics));
  ASSIGN_OR_RETURN(
      const auto grammars,
      GrammarService::Start(GrammarOptions(flags), std::move(fork_server),
                            ReadVocabulary(*loaded.tokenizer, loaded.info.vocab_size), &metrics));
  executor.Start();
  ASSIGN_OR_RETURN(
      const auto rpc_server,
      RpcServer::Start({.address = flags.listen,
                        .last_progress = [&executor] { return executor.last_progress(); }},
                       {.model = &loaded.info,
                        .tokenizer = loaded.tokenizer.get(),
                        .queue = &queue,
                        .metrics = &metrics,
                        .grammars = grammars.get()}));
  RETURN_IF_ERROR(CatchShutdownSignals());
  RETURN_IF_ERROR(Announce(flags.listen, rpc_server->port()));
  const int signal_number = AwaitShutdownSignal();
  spdlog::info("signal {}: draining for at most {}", signal_number,
               absl::FormatDuration(flags.drain_timeout));
  ShutDown(flags.drain_timeout, *rpc_server, executor);
  spdlog::info("ended");
  return absl::OkStatus();
}

absl::Status Run(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  ASSIGN_OR_RETURN(const ServerFlags flags, ReadFlags(argc, argv));
  SetUpLog(flags.log_level);
  return Serve(flags);
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  const absl::Status status = adamoe::Run(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "adamoe_server: %s\n", std::string(status.message()).c_str());
  return 1;
}
