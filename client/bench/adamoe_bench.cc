// adamoe_bench: puts load on an AdaMoE inference server and measures it.
#include <fstream>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "client/bench/load_run.h"
#include "client/bench/report.h"
#include "client/bench/stall_probe.h"
#include "client/bench/trace.h"
#include "client/connection.h"
#include "client/flags_help.h"
#include "client/rpc.h"

ABSL_FLAG(uint32_t, concurrency, 8, "Closed loop and --stall_probe: requests running at a time");
ABSL_FLAG(
    uint32_t, requests, 100,
    "Requests to send at most; 0: no limit, as long as --duration lasts. A trace is sent whole");
ABSL_FLAG(absl::Duration, duration, absl::InfiniteDuration(),
          "Sends no request after that long, as in 30s or 5m; those running may end");
ABSL_FLAG(
    absl::optional<double>, rate, absl::nullopt,
    "Open loop: requests a second in the mean, at random times (Poisson). Default: closed loop");
ABSL_FLAG(std::string, trace, "",
          "Open loop: a CSV file, plain or gzip, of arrival time in seconds, prompt tokens and "
          "output tokens");
ABSL_FLAG(uint64_t, seed, 1, "Of the prompts and the arrival times");
ABSL_FLAG(uint32_t, prompt_tokens, 128, "Tokens of each prompt, drawn at random");
ABSL_FLAG(uint32_t, output_tokens, 64,
          "Tokens to generate for each; end-of-sequence tokens do not end them");
ABSL_FLAG(float, temperature, 0, "Divides the logits, in [0, 100]; 0 takes the likeliest token");
ABSL_FLAG(
    absl::optional<float>, null_bias, absl::nullopt,
    "Added to the router logits of the null experts, in [-1000, 1000]. Default: 0, as trained");
ABSL_FLAG(absl::optional<uint32_t>, max_experts_per_token, absl::nullopt,
          "True experts per token and layer at most, >= 1. Default: no limit");
ABSL_FLAG(absl::Duration, timeout, absl::InfiniteDuration(),
          "How long each request may take, as in 500ms or 30s");
ABSL_FLAG(std::string, json, "",
          "Also writes the report to this file, as JSON with times in seconds");
ABSL_FLAG(bool, stall_probe, false,
          "Instead: keeps --concurrency streams running, sends long prompts, and compares the "
          "streams' inter-token "
          "latency before and during them");
ABSL_FLAG(uint32_t, probe_prompt_tokens, 2000, "--stall_probe: tokens of a long prompt");
ABSL_FLAG(uint32_t, probes, 3, "--stall_probe: long prompts, one after the other");
ABSL_FLAG(absl::Duration, probe_interval, absl::Seconds(2),
          "--stall_probe: undisturbed running before each");

namespace adamoe {
namespace {

constexpr char kUsage[] = R"(adamoe_bench puts load on an AdaMoE inference server and measures it.

  adamoe_bench --concurrency=8 --requests=200       closed loop: 8 requests at a time
  adamoe_bench --rate=5 --duration=60s --requests=0 open loop: 5 requests a second, at random times
  adamoe_bench --trace=FILE.csv.gz                  open loop: a recording
  adamoe_bench --stall_probe                        does a long prompt hold up running streams?

Exits with 1 when no request ended well.)";

absl::Status CheckFlags(const std::vector<char*>& arguments) {
  auto invalid = [](auto... parts) { return absl::InvalidArgumentError(absl::StrCat(parts...)); };
  if (arguments.size() > 1)
    return invalid("unknown argument '", arguments[1], "': there are only flags");
  for (const auto& [name, value] :
       {std::pair{"concurrency", absl::GetFlag(FLAGS_concurrency)},
        {"prompt_tokens", absl::GetFlag(FLAGS_prompt_tokens)},
        {"output_tokens", absl::GetFlag(FLAGS_output_tokens)},
        {"probe_prompt_tokens", absl::GetFlag(FLAGS_probe_prompt_tokens)},
        {"probes", absl::GetFlag(FLAGS_probes)}}) {
    if (value == 0) return invalid("--", name, " must be at least 1");
  }
  const absl::optional<double> rate = absl::GetFlag(FLAGS_rate);
  if (rate.has_value() && !(*rate > 0 && *rate <= 1e6))
    return invalid("--rate must be in (0, 1e6]");
  if (rate.has_value() && !absl::GetFlag(FLAGS_trace).empty())
    return invalid("--rate or --trace, not both");
  if (absl::GetFlag(FLAGS_duration) <= absl::ZeroDuration())
    return invalid("--duration must be more than 0");
  if (absl::GetFlag(FLAGS_requests) == 0 &&
      absl::GetFlag(FLAGS_duration) == absl::InfiniteDuration()) {
    return invalid("--requests=0 needs a --duration");
  }
  return absl::OkStatus();
}

// What all requests share.
v1::GenerateRequest BaseRequest() {
  v1::GenerateRequest request;
  request.mutable_sampling()->set_temperature(absl::GetFlag(FLAGS_temperature));
  request.mutable_sampling()->set_seed(absl::GetFlag(FLAGS_seed));
  if (const auto value = absl::GetFlag(FLAGS_null_bias))
    request.mutable_compute()->set_null_bias(*value);
  if (const auto value = absl::GetFlag(FLAGS_max_experts_per_token)) {
    request.mutable_compute()->set_max_experts_per_token(*value);
  }
  return request;
}

absl::StatusOr<LoadResults> RunLoad(v1::Inference::Stub* stub, RequestMaker maker) {
  const uint32_t limit = absl::GetFlag(FLAGS_requests);
  const size_t requests = limit == 0 ? std::numeric_limits<size_t>::max() : limit;
  const absl::Duration duration = absl::GetFlag(FLAGS_duration);
  const uint32_t prompt = absl::GetFlag(FLAGS_prompt_tokens),
                 output = absl::GetFlag(FLAGS_output_tokens);
  LoadRun run(stub, std::move(maker), absl::GetFlag(FLAGS_timeout));
  if (const std::string file = absl::GetFlag(FLAGS_trace); !file.empty()) {
    absl::StatusOr<std::vector<Arrival>> arrivals = ReadTrace(file);
    if (!arrivals.ok()) return arrivals.status();
    return run.RunOpen(*arrivals);
  }
  if (const absl::optional<double> rate = absl::GetFlag(FLAGS_rate)) {
    return run.RunOpen(
        PoissonArrivals(*rate, requests, duration, absl::GetFlag(FLAGS_seed), prompt, output));
  }
  return run.RunClosed(absl::GetFlag(FLAGS_concurrency), requests, duration, prompt, output);
}

absl::StatusOr<StallReport> RunStallProbe(v1::Inference::Stub* stub, RequestMaker maker,
                                          const v1::GetModelInfoResponse& info) {
  StallOptions options;
  options.concurrency = absl::GetFlag(FLAGS_concurrency);
  options.prompt_tokens = absl::GetFlag(FLAGS_prompt_tokens);
  if (options.prompt_tokens >= info.max_context_tokens()) {
    return absl::InvalidArgumentError("--prompt_tokens leaves nothing of the model's context");
  }
  // As long as they can be: a stream that ends and starts anew disturbs the others.
  options.output_tokens = info.max_context_tokens() - options.prompt_tokens;
  options.probe_prompt_tokens = absl::GetFlag(FLAGS_probe_prompt_tokens);
  options.probes = absl::GetFlag(FLAGS_probes);
  options.interval = absl::GetFlag(FLAGS_probe_interval);
  return StallProbe(stub, std::move(maker), options).Run();
}

// Prints a report, and writes it where --json says.
template <typename AnyReport>
absl::Status Publish(const AnyReport& report) {
  std::cout << ToText(report) << std::flush;
  const std::string file = absl::GetFlag(FLAGS_json);
  if (file.empty()) return absl::OkStatus();
  std::ofstream out(file);
  out << ToJson(report).dump(2) << std::endl;
  return out.good() ? absl::OkStatus()
                    : absl::UnavailableError(absl::StrCat(file, ": cannot be written"));
}

absl::Status Run(const std::vector<char*>& arguments) {
  if (absl::Status status = CheckFlags(arguments); !status.ok()) return status;
  const auto channel = ConnectByFlags();
  if (!channel.ok()) return channel.status();
  const auto stub = v1::Inference::NewStub(*channel);
  grpc::ClientContext context;
  v1::GetModelInfoResponse info;
  if (grpc::Status status = stub->GetModelInfo(&context, {}, &info); !status.ok())
    return FromGrpc(status);
  if (info.vocab_size() == 0)
    return absl::InternalError("the server says that its vocabulary is empty");
  RequestMaker maker(BaseRequest(), info.vocab_size(), absl::GetFlag(FLAGS_seed));
  if (absl::GetFlag(FLAGS_stall_probe)) {
    absl::StatusOr<StallReport> report = RunStallProbe(stub.get(), std::move(maker), info);
    return report.ok() ? Publish(*report) : report.status();
  }
  absl::StatusOr<LoadResults> results = RunLoad(stub.get(), std::move(maker));
  if (!results.ok()) return results.status();
  const Report report = MakeReport(*results, info);
  if (absl::Status status = Publish(report); !status.ok()) return status;
  return report.ok > 0 ? absl::OkStatus() : absl::UnavailableError("no request ended well");
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  if (adamoe::AsksForHelp({argv, argv + argc})) {
    adamoe::PrintHelp(adamoe::kUsage, {"client/bench/", "client/connection"}, std::cout);
    return 0;
  }
  const absl::Status status = adamoe::Run(absl::ParseCommandLine(argc, argv));
  if (status.ok()) return 0;
  std::cerr << "adamoe_bench: " << adamoe::StatusLine(status) << std::endl;
  return 1;
}
