// Mixtral-8x7B's shape on one GPU, with random weights made there: plain top-2 beside AdaMoE (m =
// 8, k = 3), through queue, executor, paged cache and graphs. Prints each speed as a share of the
// device's limit for it, and the gain of null experts beside the predicted one.
//
//   gpu_bench [--json=FILE] [--layers=N] [--quick]
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/cuda/cuda_gpu.h"
#include "server/cuda/cuda_model.h"
#include "server/cuda/weight_layout.h"
#include "server/device/cuda_driver.h"
#include "tests/gpu/bench/device_rates.h"
#include "tests/gpu/bench/measure.h"
#include "tests/gpu/bench/random_weights.h"
#include "tests/gpu/bench/roofline.h"
#include "tests/gpu/bench/shapes.h"

ABSL_FLAG(std::string, json, "", "File for the results. Empty: none.");
ABSL_FLAG(int32_t, layers, 0, "Layers of the model. 0: all 32, or as many as memory holds.");
ABSL_FLAG(bool, quick, false, "Fewer steps of each kind.");

namespace adamoe {
namespace {

constexpr int32_t kPromptTokens = 256;  // of requests that decode
constexpr int64_t kKvCacheTokens = 98304;
constexpr int64_t kRoomBytes = int64_t{6} << 30;  // for steps and graphs

struct Routing {
  const char* name;
  int32_t num_null_experts;
  int32_t experts_per_token;
};
constexpr Routing kRoutings[] = {{"top2", 0, 2}, {"adamoe_m8k3", 8, 3}};

struct Row {
  std::string kind;  // "decode" or "prefill"
  int32_t size;      // sequences, or tokens of the prompt
  std::string routing;
  Speed speed;
  double limit;  // tokens/s
};

ModelConfig ConfigOf(const Routing& routing, int32_t num_layers) {
  ModelConfig config = Mixtral8x7B(routing.num_null_experts, routing.experts_per_token);
  config.num_layers = num_layers;
  return config;
}

int32_t LayersFor(int64_t free_bytes) {
  if (absl::GetFlag(FLAGS_layers) > 0) return absl::GetFlag(FLAGS_layers);
  for (int32_t layers = 32; layers > 1; --layers) {
    const ModelConfig config = ConfigOf(kRoutings[1], layers);
    const int64_t cache = kKvCacheTokens * 2 * 2 * layers * config.num_kv_heads * config.head_dim;
    if (cuda::LayOutWeights(config).num_bytes + cache + kRoomBytes <= free_bytes) return layers;
  }
  return 1;
}

class Bench {
 public:
  Bench(const DeviceRates& rates, int32_t num_layers) : rates_(rates), num_layers_(num_layers) {}

  absl::Status Run(int32_t ordinal, const Routing& routing) {
    const ModelConfig config = ConfigOf(routing, num_layers_);
    ASSIGN_OR_RETURN(auto gpu, cuda::OpenCudaGpu(ordinal));
    const auto fill = [&config](cuda::Gpu& on, std::byte* memory) {
      return FillRandomWeights(config, on, memory);
    };
    ASSIGN_OR_RETURN(const auto model, cuda::CudaModel::Create(std::move(gpu), config, fill,
                                                               {.kv_cache_tokens = kKvCacheTokens,
                                                                .max_batch_tokens = 8192,
                                                                .max_sequences = 128}));
    const bool quick = absl::GetFlag(FLAGS_quick);
    for (const int32_t batch : {1, 8, 32, 128}) {
      ASSIGN_OR_RETURN(const Speed speed,
                       MeasureDecode(model.get(), batch, kPromptTokens, quick ? 16 : 64));
      const auto context = static_cast<int64_t>(speed.context);
      Add("decode", batch, routing, config, speed, DecodeWork(batch, speed.load, context));
    }
    for (const int32_t tokens : {512, 2048, 8192}) {
      ASSIGN_OR_RETURN(const Speed speed, MeasurePrefill(model.get(), tokens, quick ? 2 : 5));
      Add("prefill", tokens, routing, config, speed, PrefillWork(tokens, speed.load));
    }
    return absl::OkStatus();
  }

  void PrintGains() const {
    for (const Row& adamoe : rows_) {
      if (adamoe.routing != kRoutings[1].name) continue;
      const Row& plain = PlainOf(adamoe);
      std::printf("%s\n",
                  absl::StrFormat("%-8s%6d: null experts gain %.3f, predicted %.3f", adamoe.kind,
                                  adamoe.size, Gain(adamoe, plain), adamoe.limit / plain.limit)
                      .c_str());
    }
  }

  nlohmann::json ToJson(const std::string& device) const {
    nlohmann::json rows = nlohmann::json::array();
    for (const Row& row : rows_) {
      nlohmann::json entry = {{"kind", row.kind},
                              {"size", row.size},
                              {"routing", row.routing},
                              {"load", row.speed.load},
                              {"tokens_per_second", row.speed.tokens_per_second},
                              {"limit_tokens_per_second", row.limit},
                              {"share_of_limit", row.speed.tokens_per_second / row.limit},
                              {"step_seconds", row.speed.step_seconds},
                              {"host_seconds", row.speed.host_seconds},
                              {"steps", row.speed.num_steps}};
      if (row.routing == kRoutings[1].name) {
        entry["gain"] = Gain(row, PlainOf(row));
        entry["predicted_gain"] = row.limit / PlainOf(row).limit;
      }
      rows.push_back(std::move(entry));
    }
    return {{"device", device},
            {"num_layers", num_layers_},
            {"bytes_per_second", rates_.bytes_per_second},
            {"flops_per_second", rates_.flops_per_second},
            {"rows", std::move(rows)}};
  }

 private:
  void Add(const char* kind, int32_t size, const Routing& routing, const ModelConfig& config,
           const Speed& speed, const StepWork& work) {
    const auto tokens = static_cast<double>(work.num_tokens);
    rows_.push_back({.kind = kind,
                     .size = size,
                     .routing = routing.name,
                     .speed = speed,
                     .limit = tokens / StepSecondsAtLeast(config, work, rates_)});
    const Row& row = rows_.back();
    std::printf("%s\n",
                absl::StrFormat("%-8s%6d %-12s load %.2f: %9.1f tokens/s, %3.0f %% of %9.1f; step "
                                "%.3f ms, host %.3f ms",
                                row.kind, row.size, row.routing, speed.load,
                                speed.tokens_per_second, 100 * speed.tokens_per_second / row.limit,
                                row.limit, 1e3 * speed.step_seconds, 1e3 * speed.host_seconds)
                    .c_str());
    std::fflush(stdout);
  }

  const Row& PlainOf(const Row& row) const {
    for (const Row& other : rows_) {
      if (other.routing == kRoutings[0].name && other.kind == row.kind && other.size == row.size) {
        return other;
      }
    }
    return row;
  }

  static double Gain(const Row& row, const Row& plain) {
    return row.speed.tokens_per_second / plain.speed.tokens_per_second;
  }

  const DeviceRates rates_;
  const int32_t num_layers_;
  std::vector<Row> rows_;
};

absl::Status Run() {
  const auto device = FindCudaDevice();
  if (!device.ok()) {
    std::printf("nothing measured: %s\n", std::string(device.status().message()).c_str());
    return absl::OkStatus();
  }
  DeviceRates rates;
  int32_t num_layers = 0;
  {
    ASSIGN_OR_RETURN(const auto gpu, cuda::OpenCudaGpu(device->ordinal));
    ASSIGN_OR_RETURN(const int64_t free_bytes, gpu->FreeBytes());
    num_layers = LayersFor(free_bytes);
    ASSIGN_OR_RETURN(rates, MeasureRates(*gpu));
  }
  std::printf("%s: copies %.2f TB/s, multiplies %.0f TFLOP/s; Mixtral-8x7B's shape, %d layers\n",
              device->name.c_str(), rates.bytes_per_second / 1e12, rates.flops_per_second / 1e12,
              num_layers);
  Bench bench(rates, num_layers);
  for (const Routing& routing : kRoutings) RETURN_IF_ERROR(bench.Run(device->ordinal, routing));
  bench.PrintGains();
  if (!absl::GetFlag(FLAGS_json).empty()) {
    std::ofstream file(absl::GetFlag(FLAGS_json));
    file << bench.ToJson(device->name).dump(1) << "\n";
    if (!file) return absl::InternalError("the file of --json cannot be written");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = adamoe::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "gpu_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}
