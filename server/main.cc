// adamoe_server: flags, wiring and shutdown.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/clock.h"
#include "server/base/status_macros.h"
#include "server/base/ticker.h"
#include "server/executor/executor.h"
#include "server/flags.h"
#include "server/http/http_server.h"
#include "server/loaded_model.h"
#include "server/log/log.h"
#include "server/machine.h"
#include "server/metrics/exposer.h"
#include "server/metrics/server_metrics.h"
#include "server/queue/request_queue.h"
#include "server/reloads.h"
#include "server/rpc/rpc_server.h"
#include "server/shutdown_signal.h"
#include "server/structured/fork_server.h"
#include "server/structured/grammar_service.h"
#include "server/structured/vocabulary.h"

namespace adamoe {
namespace {

// How often the operator's files are looked at.
constexpr absl::Duration kReloadPeriod = absl::Seconds(1);

// How long lines of the log have to reach whoever reads them.
constexpr absl::Duration kLogTimeout = absl::Seconds(3);

// How long calls have to hand over what the drained executor has left them.
constexpr absl::Duration kFlushTimeout = absl::Seconds(3);

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
          .other_flops = {.projections = dims.projection_flops,
                          .attention_per_key = dims.attention_flops_per_key,
                          .router = dims.router_flops,
                          .lm_head = dims.lm_head_flops},
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

absl::StatusOr<std::unique_ptr<TlsFiles>> OpenTls(const ServerFlags& flags) {
  if (!flags.tls.has_value()) return nullptr;
  return TlsFiles::Open(*flags.tls);
}

absl::StatusOr<std::unique_ptr<Authenticator>> OpenTokens(const ServerFlags& flags) {
  if (flags.auth_tokens_file.empty()) return nullptr;
  auto tokens = Authenticator::Open(flags.auth_tokens_file, flags.max_requests_per_token);
  if (tokens.ok()) return tokens;
  return absl::Status(tokens.status().code(),
                      absl::StrCat("--auth_tokens_file: ", tokens.status().message()));
}

absl::StatusOr<std::unique_ptr<HttpServer>> ServeHttp(const ServerFlags& flags, const TlsFiles* tls,
                                                      const Executor& executor,
                                                      const CallContext& context) {
  if (flags.http_listen.empty()) return nullptr;
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(flags.http_listen));
  ASSIGN_OR_RETURN(
      auto server,
      HttpServer::Start({.host = endpoint.host,
                         .port = endpoint.port,
                         .tls = tls,
                         .last_progress = [&executor] { return executor.last_progress(); }},
                        context));
  spdlog::info("http at {}://{}:{}", tls == nullptr ? "http" : "https", endpoint.host,
               server->port());
  return server;
}

// Says where health is, and, as the one line of standard output, where the service is.
absl::Status Announce(const ServerFlags& flags, const RpcServer& rpc_server) {
  if (!flags.health_listen.empty()) {
    ASSIGN_OR_RETURN(const Endpoint health, ParseEndpoint(flags.health_listen));
    spdlog::info("health at {}:{}", health.host, rpc_server.health_port());
  }
  FlushLog(kLogTimeout);
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(flags.listen));
  std::printf("adamoe_server: listening on %s:%d\n", endpoint.host.c_str(), rpc_server.port());
  std::fflush(stdout);
  return absl::OkStatus();
}

// `http_server` may be null.
void ShutDown(const ServerFlags& flags, RpcServer& rpc_server, HttpServer* http_server,
              Executor& executor) {
  rpc_server.StopServing();
  if (http_server != nullptr) http_server->StopServing();
  if (flags.drain_delay > absl::ZeroDuration()) {
    spdlog::info("NOT_SERVING; requests are still taken for {}",
                 absl::FormatDuration(flags.drain_delay));
    absl::SleepFor(flags.drain_delay);
  }
  spdlog::info("draining for at most {}", absl::FormatDuration(flags.drain_timeout));
  rpc_server.StopAccepting();
  if (http_server != nullptr) http_server->StopAccepting();
  executor.Drain(flags.drain_timeout);
  const absl::Time flushed = absl::Now() + kFlushTimeout;
  rpc_server.Shutdown(kFlushTimeout);
  if (http_server != nullptr) {
    http_server->Shutdown(std::max(flushed - absl::Now(), absl::ZeroDuration()));
  }
}

absl::Status Serve(const ServerFlags& flags, std::unique_ptr<ForkServer> fork_server) {
  ASSIGN_OR_RETURN(const auto tls, OpenTls(flags));
  ASSIGN_OR_RETURN(const auto tokens, OpenTokens(flags));
  const RequestLog request_log({flags.log_format, flags.log_prompts});
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
  const CallContext context = {.model = &loaded.info,
                               .tokenizer = loaded.tokenizer.get(),
                               .queue = &queue,
                               .metrics = &metrics,
                               .authenticator = tokens.get(),
                               .log = flags.log_requests ? &request_log : nullptr,
                               .grammars = grammars.get()};
  ASSIGN_OR_RETURN(
      const auto rpc_server,
      RpcServer::Start({.address = flags.listen,
                        .tls = tls.get(),
                        .health_address = flags.health_listen,
                        .last_progress = [&executor] { return executor.last_progress(); }},
                       context));
  ASSIGN_OR_RETURN(const auto http_server, ServeHttp(flags, tls.get(), executor, context));
  Reloads reloads(tls.get(), tokens.get(), &metrics);
  const Ticker housekeeping(kReloadPeriod, [&] {
    reloads.Run();
    metrics.SetDroppedLogLines(NumDroppedLogLines());
  });
  RETURN_IF_ERROR(CatchShutdownSignals());
  RETURN_IF_ERROR(Announce(flags, *rpc_server));
  const int signal_number = AwaitShutdownSignal();
  spdlog::info("signal {}", signal_number);
  ShutDown(flags, *rpc_server, http_server.get(), executor);
  spdlog::info("ended");
  return absl::OkStatus();
}

absl::Status Run(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  RaiseOpenFilesLimit();
  const auto flags = ReadFlags(argc, argv);
  // While there is one thread.
  auto fork_server = ForkServer::Start();
  StartLog(flags.ok() ? flags->log_level : "info", RequestedLogFormat());
  RETURN_IF_ERROR(flags.status());
  RETURN_IF_ERROR(fork_server.status());
  RETURN_IF_ERROR(EndOnShutdownSignals());
  return Serve(*flags, *std::move(fork_server));
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  const absl::Status status = adamoe::Run(argc, argv);
  const bool as_json = adamoe::RequestedLogFormat() == adamoe::LogFormat::kJson;
  if (!status.ok() && as_json) spdlog::error(std::string(status.message()));
  adamoe::FlushLog(adamoe::kLogTimeout);
  if (status.ok()) return 0;
  if (!as_json) std::fprintf(stderr, "adamoe_server: %s\n", std::string(status.message()).c_str());
  return 1;
}
