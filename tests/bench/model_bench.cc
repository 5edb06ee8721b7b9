// Tokens per second of whole forward passes on the CPU, for Mixtral's proportions at 0.8 billion
// bfloat16 parameters: plain top-2 beside AdaMoE (m = 8, k = 3) of the same weights.
//
//   model_bench [--benchmark_filter=Decode]      ADAMOE_THREADS=N (default: all processors)
//
// experts: true experts run per token and layer. GB/s: weights a step must read, once each.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "server/base/thread_pool.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/model/mixtral_model.h"
#include "tests/bench/random_model.h"

namespace adamoe {
namespace {

constexpr int32_t kContext = 256;
constexpr int32_t kMaxSequences = 32;

int NumThreads() {
  const char* wanted = std::getenv("ADAMOE_THREADS");
  return wanted != nullptr ? std::atoi(wanted)
                           : static_cast<int>(std::thread::hardware_concurrency());
}

// One model per precision and routing, over the same weights; made on first use.
MixtralModel& ModelFor(Precision precision, int32_t m, int32_t k) {
  static ThreadPool* const pool = new ThreadPool(NumThreads());
  static const auto* const weights = new MixtralWeights(RandomWeights(SmallMixtralConfig(8, 3)));
  static auto* const models =
      new std::map<std::tuple<Precision, int32_t, int32_t>, std::unique_ptr<MixtralModel>>;
  std::unique_ptr<MixtralModel>& model = (*models)[{precision, m, k}];
  if (model == nullptr) {
    MixtralWeights routed = *weights;
    routed.config = SmallMixtralConfig(m, k);
    model = *MixtralModel::Create(std::move(routed),
                                  CreateCpuOps({.pool = pool, .precision = precision}),
                                  {.kv_cache_tokens = kMaxSequences * 2 * kContext});
  }
  return *model;
}

// `num_sequences` sequences, each running its positions [begin, end).
ForwardBatch BatchOf(const ModelDimensions& dimensions, int32_t num_sequences, int32_t begin,
                     int32_t end) {
  ForwardBatch batch;
  const int32_t blocks = (end + dimensions.kv_block_size - 1) / dimensions.kv_block_size;
  batch.token_begin = {0};
  for (int32_t s = 0; s < num_sequences; ++s) {
    std::vector<int32_t> table(blocks);
    std::iota(table.begin(), table.end(), s * blocks);
    for (int32_t position = begin; position < end; ++position) {
      batch.token_ids.push_back((s * 7919 + position * 104729 + 13) % dimensions.vocab_size);
      batch.positions.push_back(position);
      batch.kv_slots.push_back(s * blocks * dimensions.kv_block_size + position);
    }
    batch.token_begin.push_back(batch.num_tokens());
    batch.context_lens.push_back(end);
    batch.block_tables.push_back(std::move(table));
    batch.logit_rows.push_back(batch.num_tokens() - 1);
  }
  batch.null_bias.assign(batch.token_ids.size(), 0.0f);
  batch.max_experts.assign(batch.token_ids.size(), 0);
  return batch;
}

// Bytes of weights the step of `result` must read.
double WeightBytes(const ModelConfig& config, const ForwardResult& result) {
  const double hidden = config.hidden_size;
  const double attention = hidden * config.head_dim * (config.num_heads + config.num_kv_heads) * 2;
  double elements = config.num_layers * attention + hidden * config.vocab_size;
  for (uint32_t rows : result.expert_rows) {
    if (rows > 0) elements += 3 * hidden * config.intermediate_size;
  }
  return 2 * elements;
}

void Run(benchmark::State& state, const ForwardBatch& batch, MixtralModel& model, int32_t m,
         int32_t k) {
  ForwardResult result;
  for (auto _ : state) {
    if (!model.Forward(batch, &result).ok()) state.SkipWithError("Forward failed");
  }
  const double executed = std::accumulate(result.executed.begin(), result.executed.end(), 0.0);
  state.SetItemsProcessed(state.iterations() * batch.num_tokens());
  state.counters["experts"] = executed / result.executed.size();
  state.counters["GB/s"] = benchmark::Counter(WeightBytes(SmallMixtralConfig(m, k), result) / 1e9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void Decode(benchmark::State& state, Precision precision, int32_t m, int32_t k) {
  MixtralModel& model = ModelFor(precision, m, k);
  const auto batch = BatchOf(model.dimensions(), state.range(0), kContext, kContext + 1);
  Run(state, batch, model, m, k);
}

void Prefill(benchmark::State& state, Precision precision, int32_t m, int32_t k) {
  MixtralModel& model = ModelFor(precision, m, k);
  Run(state, BatchOf(model.dimensions(), 1, 0, state.range(0)), model, m, k);
}

void Register() {
  for (auto [name, precision] :
       {std::pair{"bfloat16", Precision::kBFloat16}, std::pair{"float32", Precision::kFloat32}}) {
    for (auto [m, k] : {std::pair{0, 2}, std::pair{8, 3}}) {
      const std::string suffix = std::string(name) + (m == 0 ? "/top2" : "/adamoe_m8k3");
      benchmark::RegisterBenchmark(("Decode/" + suffix).c_str(), Decode, precision, m, k)
          ->Arg(1)
          ->Arg(4)
          ->Arg(8)
          ->Arg(16)
          ->Arg(kMaxSequences)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
      benchmark::RegisterBenchmark(("Prefill/" + suffix).c_str(), Prefill, precision, m, k)
          ->Arg(128)
          ->Arg(512)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  adamoe::Register();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
