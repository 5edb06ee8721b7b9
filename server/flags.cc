#include "server/flags.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/security/loopback.h"

ABSL_FLAG(std::string, model, "",
          "Folder of the model: config.json, safetensors and tokenizer.json. Required.");
ABSL_FLAG(std::string, adapter, "",
          "Folder of a PEFT adapter of AdaMoE's training, merged into the weights at start. Empty: "
          "none.");
ABSL_FLAG(int32_t, experts_per_token, 0,
          "k: router picks per token and layer, null experts included. 0: as config.json says.");
ABSL_FLAG(std::string, listen, "127.0.0.1:50051",
          "HOST:PORT of the gRPC service. Port 0: any free one. An address that other machines can "
          "reach needs --tls_cert_file and --tls_key_file, or --insecure.");
ABSL_FLAG(
    bool, insecure, false,
    "Lets --listen and --http_listen be addresses that other machines can reach without TLS: for "
    "networks that are safe by other means.");
ABSL_FLAG(
    std::string, tls_cert_file, "",
    "PEM file of the certificate that clients are greeted with, followed by those that signed "
    "it. With --tls_key_file: gRPC and HTTP speak TLS only. This file, the key's and the "
    "client CA's are read again within seconds when they change; where they cannot be used "
    "together the last good ones stay, and the log says so.");
ABSL_FLAG(std::string, tls_key_file, "",
          "PEM file of the key of --tls_cert_file, without a passphrase.");
ABSL_FLAG(std::string, tls_client_ca_file, "",
          "PEM file of certificates: clients must show one that is signed by one of these (mutual "
          "TLS). Empty: clients need none.");
ABSL_FLAG(
    std::string, auth_tokens_file, "",
    "File of bearer tokens, 'NAME TOKEN' or 'TOKEN' a line, # for comments. Calls need one of "
    "them as metadata (HTTP: as header) 'authorization: Bearer TOKEN'; others get "
    "UNAUTHENTICATED (401), and count as invalid in adamoe_requests_total. Only health is open. "
    "Read again within seconds when it changes; where it cannot be used the last good tokens "
    "stay. Empty: no tokens are wanted.");
ABSL_FLAG(int32_t, max_running_requests_per_token, 0,
          "Generate and Score requests of one token that wait or run at a time; more are refused "
          "with RESOURCE_EXHAUSTED. 0: no limit.");
ABSL_FLAG(
    std::string, metrics_listen, "127.0.0.1:9464",
    "HOST:PORT (an IP address) where Prometheus scrapes /metrics. Port 0: any free one. Empty: "
    "nowhere. Plain HTTP, without tokens, on any address.");
ABSL_FLAG(
    std::string, health_listen, "",
    "HOST:PORT of a listener in plaintext that serves grpc.health.v1 and nothing else, for "
    "probes that speak no TLS. Port 0: any free one. Empty: none; --listen serves it anyway.");
ABSL_FLAG(
    std::string, http_listen, "",
    "HOST:PORT of the HTTP service, for clients of OpenAI's API. Port 0: any free one. Empty: "
    "none. TLS, tokens and --insecure hold for it as for --listen; health is at /health.");
ABSL_FLAG(std::string, device, "auto",
          "What runs the model: auto, cpu or cuda (an NVIDIA GPU of compute capability 9.0, its "
          "driver and the CUDA plugin). auto: cuda where all that is there and serves the types "
          "asked for, else cpu.");
ABSL_FLAG(std::string, device_plugin, "",
          "File of the CUDA plugin. Empty: as the environment variable ADAMOE_CUDA_PLUGIN says, "
          "else libadamoe_cuda.so beside this program.");
ABSL_FLAG(std::string, activation_dtype, "auto",
          "Type that inputs of matrix products are rounded to: float32 (exact to the reference), "
          "bfloat16, or auto: the device's fastest.");
ABSL_FLAG(std::string, weight_dtype, "auto",
          "Type of the experts' and attention's weights in memory: auto (as the files have them), "
          "int8, or int4 (in which the output head is int8).");
ABSL_FLAG(
    int64_t, kv_cache_tokens, 0,
    "Size of the KV cache, in tokens of all requests together. 0: on the CPU up to eight full "
    "contexts, within a quarter of the memory available; on a GPU what its memory leaves, but "
    "for a reserve of 1 GiB.");
ABSL_FLAG(int32_t, block_size, 16, "Tokens per block of the KV cache.");
ABSL_FLAG(bool, prefix_caching, true,
          "Keeps the KV blocks of prompts, so that a prompt that starts alike need not run again.");
ABSL_FLAG(int32_t, max_batch_tokens, 512,
          "Tokens run per step: what prompts and running requests share.");
ABSL_FLAG(
    int32_t, prefill_chunk_tokens, 0,
    "Prompt tokens per step while other requests generate, so that a long prompt does not stall "
    "them. 0: measured, so that such a step takes about twice one that only generates, and "
    "longer by as much for each further prompt that waits, up to eight times.");
ABSL_FLAG(int32_t, max_running_requests, 64, "Requests that run at the same time.");
ABSL_FLAG(int32_t, max_queued_requests, 256,
          "Requests that may wait to run; more are refused with RESOURCE_EXHAUSTED.");
ABSL_FLAG(absl::Duration, grammar_compile_timeout, absl::Seconds(5),
          "Time to work out the form that a request wants its output to have (schema, grammar, "
          "regular expression), in a process of its own; what takes longer is refused.");
ABSL_FLAG(int64_t, grammar_cache_bytes, 256 << 20,
          "Memory of forms kept for later requests while no request uses them; at most 128 are "
          "kept.");
ABSL_FLAG(absl::Duration, drain_delay, absl::ZeroDuration(),
          "Time between SIGTERM or SIGINT, when health turns NOT_SERVING, and the drain, during "
          "which requests are still taken: as long as load balancers need to look elsewhere. "
          "It replaces a preStop hook that sleeps.");
ABSL_FLAG(
    absl::Duration, drain_timeout, absl::Seconds(30),
    "Time that running requests have to end after SIGTERM or SIGINT and --drain_delay, as 30s "
    "or 2m. A second signal ends the server at once.");
ABSL_FLAG(int32_t, threads, 0, "Threads that run the model on the CPU. 0: one per core available.");
ABSL_FLAG(uint32_t, baseline_experts_per_token, 2,
          "Experts per token of the plain model that FLOPs are compared with.");
ABSL_FLAG(bool, per_expert_metrics, false,
          "Exports adamoe_expert_tokens_total: one time series per layer and expert.");
ABSL_FLAG(std::string, log_level, "info", "What is logged to stderr: debug, info, warn or error.");
ABSL_FLAG(std::string, log_format, "text",
          "How it is logged: text, or json: one object a line. When whoever reads stderr does not "
          "keep up, the oldest lines are dropped and counted in adamoe_log_lines_dropped_total.");
ABSL_FLAG(
    bool, log_requests, true,
    "Logs one line for each Generate and Score when it ends, at level info (at error where the "
    "server was at fault): who asked, how it ended, what it cost.");
ABSL_FLAG(bool, log_prompts, false,
          "These lines hold the start of the prompt too. Generated text is never logged.");

namespace adamoe {
namespace {

constexpr absl::string_view kUsage =
    "adamoe_server: serves a Mixtral or AdaMoE model over gRPC and HTTP.\n\n"
    "  adamoe_server --model=DIR [--listen=127.0.0.1:50051] [flags]\n"
    "  adamoe_server --flagfile=FILE\n\n"
    "Prints one line with \"listening on HOST:PORT\" to stdout once it serves; logs go to stderr.\n"
    "The environment variable ADAMOE_CPU_ISA (scalar, avx2, avx512, avx512vnni, avx512bf16, amx) "
    "holds "
    "the CPU\nkernels to an instruction set. Default: the best that the processor has.";

bool IsOwnFlagFile(absl::string_view path) { return absl::EndsWith(path, "server/flags.cc"); }

bool AsksForHelp(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--") return false;
    if (argument == "--help" || argument == "-help" || argument == "-h") return true;
  }
  return false;
}

// Prints `text` in lines of at most 96 columns, indented.
void PrintWrapped(absl::string_view text) {
  size_t column = 0;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > 0 && column + 1 + word.size() > 96) {
      std::printf("\n");
      column = 0;
    }
    column += std::printf("%s%.*s", column == 0 ? "      " : " ", static_cast<int>(word.size()),
                          word.data());
  }
  std::printf("\n");
}

// Abseil's own --help ends with status 1.
void PrintHelp() {
  std::printf("%s\n\nFlags, with their defaults:\n", std::string(kUsage).c_str());
  std::map<std::string, const absl::CommandLineFlag*> flags;
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (IsOwnFlagFile(flag->Filename())) flags[std::string(name)] = flag;
  }
  for (const auto& [name, flag] : flags) {
    std::printf("  --%s=%s\n", name.c_str(), flag->DefaultValue().c_str());
    PrintWrapped(flag->Help());
  }
}

absl::Status FlagError(absl::string_view flag, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", problem));
}

absl::Status CheckDuration(absl::string_view flag, absl::Duration value) {
  if (value >= absl::ZeroDuration() && value <= absl::Hours(24)) return absl::OkStatus();
  return FlagError(flag, absl::StrCat(absl::FormatDuration(value), " is not in [0s, 24h]"));
}

absl::Status CheckRanges(const ServerFlags& flags) {
  const struct {
    const char* flag;
    int64_t value;
    int64_t min;
    int64_t max;
  } ranges[] = {
      {"experts_per_token", flags.experts_per_token, 0, 255},
      {"kv_cache_tokens", flags.kv_cache_tokens, 0, 1 << 30},
      {"block_size", flags.block_size, 1, 1024},
      {"max_batch_tokens", flags.max_batch_tokens, 1, 1 << 20},
      {"prefill_chunk_tokens", flags.prefill_chunk_tokens, 0, 1 << 20},
      {"max_running_requests", flags.max_running_requests, 1, 65536},
      {"max_queued_requests", flags.max_queued_requests, 1, 1 << 20},
      {"max_running_requests_per_token", flags.max_requests_per_token, 0, 1 << 20},
      {"grammar_cache_bytes", flags.grammar_cache_bytes, 0, int64_t{1} << 40},
      {"threads", flags.threads, 0, 1024},
      {"baseline_experts_per_token", flags.baseline_experts_per_token, 1, 255},
  };
  for (const auto& range : ranges) {
    if (range.value >= range.min && range.value <= range.max) continue;
    return FlagError(range.flag,
                     absl::StrCat(range.value, " is not in [", range.min, ", ", range.max, "]"));
  }
  if (flags.grammar_compile_timeout < absl::Milliseconds(10) ||
      flags.grammar_compile_timeout > absl::Minutes(10)) {
    return FlagError("grammar_compile_timeout",
                     absl::StrCat(absl::FormatDuration(flags.grammar_compile_timeout),
                                  " is not in [10ms, 10m]"));
  }
  RETURN_IF_ERROR(CheckDuration("drain_delay", flags.drain_delay));
  return CheckDuration("drain_timeout", flags.drain_timeout);
}

absl::Status CheckEndpoint(absl::string_view flag, const std::string& value) {
  const auto endpoint = ParseEndpoint(value);
  return endpoint.ok() ? absl::OkStatus() : FlagError(flag, endpoint.status().message());
}

absl::Status CheckChoice(absl::string_view flag, const std::string& value,
                         const std::vector<std::string>& choices) {
  std::string list;
  for (const std::string& choice : choices) {
    if (value == choice) return absl::OkStatus();
    absl::StrAppend(&list, list.empty() ? "" : ", ", choice);
  }
  return FlagError(flag, absl::StrCat("'", value, "' is not one of ", list));
}

absl::StatusOr<DeviceChoice> ReadDevice(const std::string& name) {
  RETURN_IF_ERROR(CheckChoice("device", name, {"auto", "cpu", "cuda"}));
  if (name == "cpu") return DeviceChoice::kCpu;
  return name == "cuda" ? DeviceChoice::kCuda : DeviceChoice::kAuto;
}

absl::StatusOr<std::optional<Precision>> ReadPrecision(const std::string& name) {
  RETURN_IF_ERROR(CheckChoice("activation_dtype", name, {"auto", "float32", "bfloat16"}));
  if (name == "float32") return Precision::kFloat32;
  if (name == "bfloat16") return Precision::kBFloat16;
  return std::nullopt;
}

absl::StatusOr<std::optional<DType>> ReadWeightDType(const std::string& name) {
  RETURN_IF_ERROR(CheckChoice("weight_dtype", name, {"auto", "int8", "int4"}));
  if (name == "int8") return DType::kInt8;
  if (name == "int4") return DType::kInt4;
  return std::nullopt;
}

absl::StatusOr<std::optional<TlsPaths>> ReadTlsPaths() {
  TlsPaths paths = {absl::GetFlag(FLAGS_tls_cert_file), absl::GetFlag(FLAGS_tls_key_file),
                    absl::GetFlag(FLAGS_tls_client_ca_file)};
  const bool has_certificate = !paths.certificate_file.empty();
  if (has_certificate != !paths.key_file.empty()) {
    return FlagError(
        has_certificate ? "tls_key_file" : "tls_cert_file",
        absl::StrCat("is needed with --", has_certificate ? "tls_cert_file" : "tls_key_file"));
  }
  if (has_certificate) return paths;
  if (paths.client_ca_file.empty()) return std::nullopt;
  return FlagError("tls_client_ca_file", "needs --tls_cert_file and --tls_key_file");
}

// Plaintext stays on this machine, unless the operator says otherwise.
absl::Status CheckReach(absl::string_view flag, const std::string& address, bool has_tls) {
  if (has_tls || absl::GetFlag(FLAGS_insecure)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(address));
  const auto is_loopback = IsLoopback(endpoint.host);
  if (!is_loopback.ok()) return FlagError(flag, is_loopback.status().message());
  if (*is_loopback) return absl::OkStatus();
  return FlagError(flag, absl::StrCat("'", address,
                                      "' can be reached from other machines, and would be "
                                      "served without encryption: give --tls_cert_file and "
                                      "--tls_key_file, or --insecure if that is meant"));
}

ServerFlags GetFlags() {
  return {.model_dir = absl::GetFlag(FLAGS_model),
          .adapter_dir = absl::GetFlag(FLAGS_adapter),
          .experts_per_token = absl::GetFlag(FLAGS_experts_per_token),
          .listen = absl::GetFlag(FLAGS_listen),
          .http_listen = absl::GetFlag(FLAGS_http_listen),
          .metrics_listen = absl::GetFlag(FLAGS_metrics_listen),
          .device_plugin = absl::GetFlag(FLAGS_device_plugin),
          .activation_dtype = std::nullopt,
          .weight_dtype = std::nullopt,
          .kv_cache_tokens = absl::GetFlag(FLAGS_kv_cache_tokens),
          .block_size = absl::GetFlag(FLAGS_block_size),
          .max_batch_tokens = absl::GetFlag(FLAGS_max_batch_tokens),
          .max_running_requests = absl::GetFlag(FLAGS_max_running_requests),
          .max_queued_requests = absl::GetFlag(FLAGS_max_queued_requests),
          .prefill_chunk_tokens = absl::GetFlag(FLAGS_prefill_chunk_tokens),
          .prefix_caching = absl::GetFlag(FLAGS_prefix_caching),
          .grammar_compile_timeout = absl::GetFlag(FLAGS_grammar_compile_timeout),
          .grammar_cache_bytes = absl::GetFlag(FLAGS_grammar_cache_bytes),
          .threads = absl::GetFlag(FLAGS_threads),
          .drain_delay = absl::GetFlag(FLAGS_drain_delay),
          .drain_timeout = absl::GetFlag(FLAGS_drain_timeout),
          .baseline_experts_per_token = absl::GetFlag(FLAGS_baseline_experts_per_token),
          .per_expert_metrics = absl::GetFlag(FLAGS_per_expert_metrics),
          .health_listen = absl::GetFlag(FLAGS_health_listen),
          .tls = std::nullopt,
          .auth_tokens_file = absl::GetFlag(FLAGS_auth_tokens_file),
          .max_requests_per_token = absl::GetFlag(FLAGS_max_running_requests_per_token),
          .log_level = absl::GetFlag(FLAGS_log_level),
          .log_format = RequestedLogFormat(),
          .log_requests = absl::GetFlag(FLAGS_log_requests),
          .log_prompts = absl::GetFlag(FLAGS_log_prompts)};
}

}  // namespace

absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text) {
  const auto error = [text](absl::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is not HOST:PORT, as 127.0.0.1:50051 or [::1]:50051: ", problem));
  };
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return error("the port is missing");
  const absl::string_view host = text.substr(0, colon);
  const absl::string_view port_text = text.substr(colon + 1);
  if (host.empty()) return error("the host is missing");
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find_first_of(":[]") != absl::string_view::npos) {
    return error("an IPv6 host stands in brackets");
  }
  for (const char c : host) {
    if (!absl::ascii_isgraph(c) || c == ',' || c == '/')
      return error("the host has an odd character");
  }
  int port = 0;
  const bool digits = !port_text.empty() && absl::ascii_isdigit(port_text.front());
  if (!digits || !absl::SimpleAtoi(port_text, &port) || port > 65535) {
    return error("the port is not in [0, 65535]");
  }
  return Endpoint{std::string(host), port};
}

absl::StatusOr<ServerFlags> ReadFlags(int argc, char** argv) {
  if (AsksForHelp(argc, argv)) {
    PrintHelp();
    std::exit(0);
  }
  absl::FlagsUsageConfig config;
  config.contains_help_flags = IsOwnFlagFile;
  config.contains_helpshort_flags = IsOwnFlagFile;
  config.contains_helppackage_flags = IsOwnFlagFile;
  config.version_string = [] { return std::string("adamoe_server " ADAMOE_VERSION "\n"); };
  absl::SetFlagsUsageConfig(config);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("'", rest[1], "' is not a flag; see --help"));
  }
  ServerFlags flags = GetFlags();
  if (flags.model_dir.empty()) return FlagError("model", "a model folder is needed; see --help");
  RETURN_IF_ERROR(CheckRanges(flags));
  RETURN_IF_ERROR(CheckEndpoint("listen", flags.listen));
  if (!flags.metrics_listen.empty()) {
    RETURN_IF_ERROR(CheckEndpoint("metrics_listen", flags.metrics_listen));
  }
  if (!flags.health_listen.empty()) {
    RETURN_IF_ERROR(CheckEndpoint("health_listen", flags.health_listen));
  }
  RETURN_IF_ERROR(CheckChoice("log_format", absl::GetFlag(FLAGS_log_format), {"text", "json"}));
  ASSIGN_OR_RETURN(flags.tls, ReadTlsPaths());
  RETURN_IF_ERROR(CheckReach("listen", flags.listen, flags.tls.has_value()));
  if (flags.max_requests_per_token > 0 && flags.auth_tokens_file.empty()) {
    return FlagError("max_running_requests_per_token", "needs --auth_tokens_file");
  }
  if (!flags.http_listen.empty()) {
    RETURN_IF_ERROR(CheckEndpoint("http_listen", flags.http_listen));
    RETURN_IF_ERROR(CheckReach("http_listen", flags.http_listen, flags.tls.has_value()));
  }
  ASSIGN_OR_RETURN(flags.device, ReadDevice(absl::GetFlag(FLAGS_device)));
  RETURN_IF_ERROR(CheckChoice("log_level", flags.log_level, {"debug", "info", "warn", "error"}));
  ASSIGN_OR_RETURN(flags.activation_dtype, ReadPrecision(absl::GetFlag(FLAGS_activation_dtype)));
  ASSIGN_OR_RETURN(flags.weight_dtype, ReadWeightDType(absl::GetFlag(FLAGS_weight_dtype)));
  return flags;
}

LogFormat RequestedLogFormat() {
  return absl::GetFlag(FLAGS_log_format) == "json" ? LogFormat::kJson : LogFormat::kText;
}

}  // namespace adamoe
