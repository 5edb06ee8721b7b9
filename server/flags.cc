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

ABSL_FLAG(std::string, model, "",
          "Folder of the model: config.json, safetensors and tokenizer.json. Required.");
ABSL_FLAG(std::string, adapter, "",
          "Folder of a PEFT adapter of AdaMoE's training, merged into the weights at start. Empty: "
          "none.");
ABSL_FLAG(int32_t, experts_per_token, 0,
          "k: router picks per token and layer, null experts included. 0: as config.json says.");
ABSL_FLAG(std::string, listen, "127.0.0.1:50051",
          "HOST:PORT of the gRPC service. Port 0: any free one. There is no encryption or "
          "authentication: keep it on loopback or behind a proxy that has them.");
ABSL_FLAG(
    std::string, metrics_listen, "127.0.0.1:9464",
    "HOST:PORT (an IP address) where Prometheus scrapes /metrics. Port 0: any free one. Empty: "
    "nowhere.");
ABSL_FLAG(std::string, http_listen, "",
          "HOST:PORT of an HTTP front end. This server has none: leave it empty.");
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
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(30),
          "Time that running requests have to end after SIGTERM or SIGINT, as 30s or 2m. A second "
          "signal ends the server at once.");
ABSL_FLAG(int32_t, threads, 0, "Threads that run the model on the CPU. 0: one per core available.");
ABSL_FLAG(uint32_t, baseline_experts_per_token, 2,
          "Experts per token of the plain model that FLOPs are compared with.");
ABSL_FLAG(bool, per_expert_metrics, false,
          "Exports adamoe_expert_tokens_total: one time series per layer and expert.");
ABSL_FLAG(std::string, log_level, "info", "What is logged to stderr: debug, info, warn or error.");

namespace adamoe {
namespace {

constexpr absl::string_view kUsage =
    "adamoe_server: serves a Mixtral or AdaMoE model over gRPC.\n\n"
    "  adamoe_server --model=DIR [--listen=127.0.0.1:50051] [flags]\n"
    "  adamoe_server --flagfile=FILE\n\n"
    "Prints one line with \"listening on HOST:PORT\" to stdout once it serves; logs go to stderr.\n"
    "The environment variable ADAMOE_CPU_ISA (scalar, avx2, avx512, avx512vnni, avx512bf16) holds "
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
      {"threads", flags.threads, 0, 1024},
      {"baseline_experts_per_token", flags.baseline_experts_per_token, 1, 255},
  };
  for (const auto& range : ranges) {
    if (range.value >= range.min && range.value <= range.max) continue;
    return FlagError(range.flag,
                     absl::StrCat(range.value, " is not in [", range.min, ", ", range.max, "]"));
  }
  if (flags.drain_timeout < absl::ZeroDuration() || flags.drain_timeout > absl::Hours(24)) {
    return FlagError("drain_timeout", absl::StrCat(absl::FormatDuration(flags.drain_timeout),
                                                   " is not in [0s, 24h]"));
  }
  return absl::OkStatus();
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

ServerFlags GetFlags() {
  return {.model_dir = absl::GetFlag(FLAGS_model),
          .adapter_dir = absl::GetFlag(FLAGS_adapter),
          .experts_per_token = absl::GetFlag(FLAGS_experts_per_token),
          .listen = absl::GetFlag(FLAGS_listen),
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
          .threads = absl::GetFlag(FLAGS_threads),
          .drain_timeout = absl::GetFlag(FLAGS_drain_timeout),
          .baseline_experts_per_token = absl::GetFlag(FLAGS_baseline_experts_per_token),
          .per_expert_metrics = absl::GetFlag(FLAGS_per_expert_metrics),
          .log_level = absl::GetFlag(FLAGS_log_level)};
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
  if (!absl::GetFlag(FLAGS_http_listen).empty()) {
    return FlagError("http_listen", "this server has no HTTP front end; leave it empty");
  }
  ASSIGN_OR_RETURN(flags.device, ReadDevice(absl::GetFlag(FLAGS_device)));
  RETURN_IF_ERROR(CheckChoice("log_level", flags.log_level, {"debug", "info", "warn", "error"}));
  ASSIGN_OR_RETURN(flags.activation_dtype, ReadPrecision(absl::GetFlag(FLAGS_activation_dtype)));
  ASSIGN_OR_RETURN(flags.weight_dtype, ReadWeightDType(absl::GetFlag(FLAGS_weight_dtype)));
  return flags;
}

}  // namespace adamoe
