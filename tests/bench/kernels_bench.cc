// How fast the CPU kernels are: bytes of weights per second for few tokens, arithmetic for many,
// and the share of what the machine can do.
//
// Arguments name the shape; ADAMOE_CPU_ISA picks the instruction set, ADAMOE_THREADS the number of
// threads (2).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "server/base/thread_pool.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/kernels/packed.h"
#include "tests/bench/roof.h"

namespace adamoe {
namespace {

Isa ChosenIsa() {
  const char* name = std::getenv("ADAMOE_CPU_ISA");
  if (name == nullptr) return BestIsa();
  const absl::StatusOr<Isa> isa = ParseIsa(name);
  if (isa.ok()) return *isa;
  std::fprintf(stderr, "%s\n", isa.status().ToString().c_str());
  std::exit(1);
}

int NumThreads() {
  const char* threads = std::getenv("ADAMOE_THREADS");
  return threads != nullptr ? std::max(std::atoi(threads), 1) : 2;
}

ThreadPool* Pool() {
  static ThreadPool pool(NumThreads());
  return &pool;
}

// Measured once, before the first benchmark.
struct Roof {
  double gigabytes_per_second = ReadBandwidth(NumThreads());
  double gigaflops[3] = {ArithmeticRate(ChosenIsa(), Operands::kFloat32, NumThreads()),
                         ArithmeticRate(ChosenIsa(), Operands::kBFloat16, NumThreads()),
                         ArithmeticRate(ChosenIsa(), Operands::kInt16, NumThreads())};
  double Gigaflops(Operands operands) const { return gigaflops[static_cast<int>(operands)]; }
};
const Roof& MachineRoof() {
  static const Roof roof;
  return roof;
}

Operands OperandsOf(DType weights, Precision precision) {
  if (IsPacked(weights)) return Operands::kInt16;
  return precision == Precision::kBFloat16 ? Operands::kBFloat16 : Operands::kFloat32;
}

std::unique_ptr<Ops> MakeOps(Precision precision) {
  return CreateCpuOps({.pool = Pool(), .precision = precision, .isa = ChosenIsa()});
}

// Weights in bfloat16 near 0.01: no subnormals, no overflow.
std::vector<uint16_t> RandomWeights(int64_t n) {
  std::vector<uint16_t> weights(n);
  std::minstd_rand random(1);
  for (uint16_t& w : weights) w = static_cast<uint16_t>(0x3c00u | (random() & 0x807fu));
  return weights;
}

std::vector<float> RandomFloats(int64_t n) {
  std::vector<float> x(n);
  std::minstd_rand random(2);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (float& v : x) v = uniform(random);
  return x;
}

// What bounds a kernel: the bytes it must move and the arithmetic it must do.
struct Work {
  double bytes = 0;
  double flops = 0;
  Operands operands = Operands::kFloat32;
};

// Adds the rates of an iteration, and as `roof` the time that memory or arithmetic must take, the
// longer of the two, as a share of what it took: 1 is the most, but for what stays in the caches.
void Report(benchmark::State& state, const Work& work) {
  using benchmark::Counter;
  const Roof& roof = MachineRoof();
  const double seconds = std::max(work.bytes * 1e-9 / roof.gigabytes_per_second,
                                  work.flops * 1e-9 / roof.Gigaflops(work.operands));
  state.counters["GB/s"] = Counter(work.bytes * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = Counter(work.flops * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["roof"] = Counter(seconds, Counter::kIsIterationInvariantRate);
}

// A matrix of random weights, and the memory it takes.
class Weights {
 public:
  Weights(int64_t rows, int64_t cols, DType dtype)
      : plain_(RandomWeights(rows * cols)), matrix_{plain_.data(), DType::kBFloat16, rows, cols} {
    if (!IsPacked(dtype)) return;
    const PackedSize size = PackedSizeOf(dtype, rows, cols);
    data_.resize(size.num_blocks * size.bytes_per_block);
    scales_.resize(size.num_blocks * size.scales_per_block);
    Pack(matrix_, dtype, 0, size.num_blocks, data_.data(), scales_.data());
    matrix_ = {data_.data(), dtype, rows, cols, scales_.data()};
  }
  const Matrix& operator*() const { return matrix_; }
  double bytes() const {
    if (!IsPacked(matrix_.dtype)) return 2.0 * static_cast<double>(plain_.size());
    return static_cast<double>(data_.size() + 2 * scales_.size());
  }

 private:
  std::vector<uint16_t> plain_;
  Matrix matrix_;
  std::vector<uint8_t> data_;
  std::vector<uint16_t> scales_;
};

// Type of the weights, bfloat16 activations or not, rows, columns, tokens.
void BM_Linear(benchmark::State& state) {
  const auto ops = MakeOps(static_cast<Precision>(state.range(1)));
  const int64_t rows = state.range(2);
  const int64_t cols = state.range(3);
  const int32_t tokens = static_cast<int32_t>(state.range(4));
  const Weights weights(rows, cols, static_cast<DType>(state.range(0)));
  state.SetLabel(Name((*weights).dtype));
  const std::vector<float> x = RandomFloats(tokens * cols);
  std::vector<float> y(tokens * rows);
  for (auto _ : state) {
    ops->Linear(*weights, x.data(), tokens, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  Report(state, {weights.bytes(), 2.0 * rows * cols * tokens,
                 OperandsOf((*weights).dtype, ops->precision())});
}

void LinearShapes(benchmark::internal::Benchmark* b) {
  const auto add = [b](DType dtype, int64_t precision) {
    const auto type = static_cast<int64_t>(dtype);
    for (int64_t tokens : {1, 2, 4, 8, 16, 64, 512})
      b->Args({type, precision, 14336, 4096, tokens});
    for (int64_t tokens : {1, 128}) b->Args({type, precision, 4096, 14336, tokens});
    b->Args({type, precision, 512, 512, 1});
  };
  for (int64_t precision : {0, 1}) add(DType::kBFloat16, precision);
  add(DType::kInt8, 0);
  add(DType::kInt4, 0);
}
BENCHMARK(BM_Linear)
    ->Apply(LinearShapes)
    ->ArgNames({"type", "bf16", "rows", "cols", "tokens"})
    ->MeasureProcessCPUTime()
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// Every token runs `picks` of 8 experts, spread evenly.
Routing SpreadRouting(int32_t tokens, int32_t picks) {
  Routing routing;
  routing.expert_begin.push_back(0);
  for (int32_t e = 0; e < 8; ++e) {
    for (int32_t t = 0; t < tokens; ++t) {
      if ((e + 8 - t % 8) % 8 >= picks) continue;
      routing.row_token.push_back(t);
      routing.row_weight.push_back(1.0f / static_cast<float>(picks));
    }
    routing.expert_begin.push_back(static_cast<int32_t>(routing.row_token.size()));
  }
  return routing;
}

// Precision, hidden, intermediate, tokens, picks of each.
void BM_Experts(benchmark::State& state) {
  const auto ops = MakeOps(static_cast<Precision>(state.range(0)));
  const int64_t hidden = state.range(1);
  const int64_t intermediate = state.range(2);
  const int32_t tokens = static_cast<int32_t>(state.range(3));
  const int64_t size = hidden * intermediate;
  const std::vector<uint16_t> weights = RandomWeights(8 * 3 * size);
  std::vector<ExpertWeights> experts;
  for (int64_t e = 0; e < 8; ++e) {
    const uint16_t* base = weights.data() + e * 3 * size;
    experts.push_back({{base, DType::kBFloat16, intermediate, hidden},
                       {base + size, DType::kBFloat16, hidden, intermediate},
                       {base + 2 * size, DType::kBFloat16, intermediate, hidden}});
  }
  const Routing routing = SpreadRouting(tokens, static_cast<int32_t>(state.range(4)));
  const std::vector<float> x = RandomFloats(tokens * hidden);
  std::vector<float> out(tokens * hidden);
  std::vector<uint8_t> executed(tokens, 0);
  for (auto _ : state) {
    ops->Experts(experts.data(), routing, x.data(), tokens, out.data(), executed.data());
    benchmark::DoNotOptimize(out.data());
  }
  int64_t used = 0;
  for (int e = 0; e < 8; ++e) used += routing.expert_begin[e + 1] > routing.expert_begin[e];
  Report(state, {2.0 * 3 * size * static_cast<double>(used),
                 2.0 * 3 * size * static_cast<double>(routing.row_token.size()),
                 OperandsOf(DType::kBFloat16, ops->precision())});
}

void ExpertShapes(benchmark::internal::Benchmark* b) {
  for (int64_t precision : {0, 1}) {
    b->Args({precision, 256, 512, 1, 2});
    for (int64_t tokens : {1, 8, 256}) b->Args({precision, 2048, 7168, tokens, 2});
  }
}
BENCHMARK(BM_Experts)
    ->Apply(ExpertShapes)
    ->ArgNames({"bf16", "hidden", "inner", "tokens", "picks"})
    ->MeasureProcessCPUTime()
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// Type of the cache, tokens at the end of each context, context, sequences. 32 query heads on 8,
// 128 wide.
void BM_Attention(benchmark::State& state) {
  const auto ops = MakeOps(Precision::kFloat32);
  const DType dtype = static_cast<DType>(state.range(0));
  const int32_t tokens = static_cast<int32_t>(state.range(1));
  const int32_t context = static_cast<int32_t>(state.range(2));
  const int32_t sequences = static_cast<int32_t>(state.range(3));
  const int32_t blocks = context / 16;
  const int64_t cache_size = int64_t{sequences} * context * 8 * 128;
  std::vector<float> keys = RandomFloats(cache_size), values = keys;
  std::vector<uint16_t> narrow_keys = RandomWeights(cache_size), narrow_values = narrow_keys;
  std::vector<int32_t> token_begin(1, 0), positions, tables;
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t t = 0; t < tokens; ++t) positions.push_back(context - tokens + t);
    for (int32_t b = 0; b < blocks; ++b) tables.push_back(s * blocks + b);
    token_begin.push_back(static_cast<int32_t>(positions.size()));
  }
  const std::vector<float> q = RandomFloats(static_cast<int64_t>(positions.size()) * 32 * 128);
  std::vector<float> out(q.size());
  const bool wide = dtype == DType::kFloat32;
  const KvLayer cache{wide ? static_cast<void*>(keys.data()) : narrow_keys.data(),
                      wide ? static_cast<void*>(values.data()) : narrow_values.data(),
                      dtype,
                      16,
                      8,
                      128};
  const AttentionBatch batch{sequences, token_begin.data(), positions.data(), tables.data(), blocks,
                             0};
  for (auto _ : state) {
    ops->Attention(q.data(), cache, batch, 32, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  double keys_seen = 0;
  for (int32_t position : positions) keys_seen += position + 1;
  Report(state, {2.0 * static_cast<double>(cache_size) * static_cast<double>(SizeOf(dtype)),
                 4.0 * 32 * 128 * keys_seen});
}

void AttentionShapes(benchmark::internal::Benchmark* b) {
  for (int64_t dtype : {0, 2}) {
    b->Args({dtype, 1, 4096, 1});
    b->Args({dtype, 1, 1024, 16});
    b->Args({dtype, 512, 1024, 1});
  }
}
BENCHMARK(BM_Attention)
    ->Apply(AttentionShapes)
    ->ArgNames({"fp32", "tokens", "context", "sequences"})
    ->MeasureProcessCPUTime()
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// What remains of a layer, on so many tokens of Mixtral-8x7B: bytes read and written.
constexpr int32_t kHidden = 4096;
constexpr int32_t kHeads = 32;
constexpr int32_t kKvHeads = 8;
constexpr int32_t kHeadDim = 128;
constexpr int32_t kExperts = 8;
constexpr int32_t kNullExperts = 8;

// Times run(ops, tokens), which moves `bytes_per_token`.
template <class Body>
void RunPerToken(benchmark::State& state, double bytes_per_token, const Body& run) {
  const auto ops = MakeOps(Precision::kFloat32);
  const int32_t tokens = static_cast<int32_t>(state.range(0));
  for (auto _ : state) run(*ops, tokens);
  Report(state, {.bytes = bytes_per_token * tokens});
}

void BM_Embed(benchmark::State& state) {
  constexpr int32_t kVocab = 32000;
  const Weights table(kVocab, kHidden, DType::kBFloat16);
  std::vector<int32_t> ids(state.range(0));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7919 % kVocab);
  std::vector<float> out(ids.size() * kHidden);
  RunPerToken(state, 6.0 * kHidden,
              [&](Ops& ops, int32_t tokens) { ops.Embed(*table, ids.data(), tokens, out.data()); });
}

void BM_RmsNorm(benchmark::State& state) {
  const std::vector<float> x = RandomFloats(state.range(0) * kHidden), weight(kHidden, 1.0f);
  std::vector<float> out(x.size());
  RunPerToken(state, 8.0 * kHidden, [&](Ops& ops, int32_t tokens) {
    ops.RmsNorm(x.data(), weight.data(), 1e-5f, tokens, kHidden, out.data());
  });
}

void BM_Add(benchmark::State& state) {
  const std::vector<float> x(state.range(0) * kHidden, 0.0f);
  std::vector<float> y(x);
  RunPerToken(state, 12.0 * kHidden, [&](Ops& ops, int32_t tokens) {
    ops.Add(x.data(), int64_t{tokens} * kHidden, y.data());
  });
}

std::vector<int32_t> Positions(int64_t n) {
  std::vector<int32_t> positions(n);
  for (int64_t i = 0; i < n; ++i) positions[i] = static_cast<int32_t>(i);
  return positions;
}

void BM_Rope(benchmark::State& state) {
  std::vector<float> x = RandomFloats(state.range(0) * kHeads * kHeadDim);
  const std::vector<int32_t> positions = Positions(state.range(0));
  RunPerToken(state, 8.0 * kHeads * kHeadDim, [&](Ops& ops, int32_t tokens) {
    ops.Rope(positions.data(), 1e6f, tokens, kHeads, kHeadDim, x.data());
  });
}

void BM_AppendKv(benchmark::State& state) {
  const int64_t width = kKvHeads * kHeadDim;
  const std::vector<float> keys = RandomFloats(state.range(0) * width), values = keys;
  const std::vector<int32_t> slots = Positions(state.range(0));
  std::vector<uint16_t> cached_keys(keys.size()), cached_values(keys.size());
  const KvLayer cache{
      cached_keys.data(), cached_values.data(), DType::kBFloat16, 1, kKvHeads, kHeadDim};
  RunPerToken(state, 2 * 6.0 * static_cast<double>(width), [&](Ops& ops, int32_t tokens) {
    ops.AppendKv(keys.data(), values.data(), slots.data(), tokens, cache);
  });
}

void BM_Router(benchmark::State& state) {
  const std::vector<float> x = RandomFloats(state.range(0) * kHidden);
  const std::vector<float> w = RandomFloats((kExperts + kNullExperts) * kHidden);
  std::vector<float> logits(state.range(0) * (kExperts + kNullExperts));
  RunPerToken(state, 4.0 * kHidden, [&](Ops& ops, int32_t tokens) {
    ops.LinearFloat32({w.data(), DType::kFloat32, kExperts + kNullExperts, kHidden}, x.data(),
                      tokens, logits.data());
  });
}

void BM_Route(benchmark::State& state) {
  const std::vector<float> logits = RandomFloats(state.range(0) * (kExperts + kNullExperts));
  const std::vector<float> null_bias(state.range(0), 0.0f);
  const std::vector<uint32_t> max_experts(state.range(0), 0);
  Routing routing;
  RunPerToken(state, 4.0 * (kExperts + kNullExperts), [&](Ops& ops, int32_t tokens) {
    ops.Route(logits.data(), tokens,
              {kExperts, kNullExperts, 3, null_bias.data(), max_experts.data()}, &routing);
  });
}

void TokenCounts(benchmark::internal::Benchmark* b) {
  b->Arg(1)->Arg(16)->Arg(512)->ArgName("tokens")->UseRealTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(BM_Embed)->Apply(TokenCounts);
BENCHMARK(BM_RmsNorm)->Apply(TokenCounts);
BENCHMARK(BM_Add)->Apply(TokenCounts);
BENCHMARK(BM_Rope)->Apply(TokenCounts);
BENCHMARK(BM_AppendKv)->Apply(TokenCounts);
BENCHMARK(BM_Router)->Apply(TokenCounts);
BENCHMARK(BM_Route)->Apply(TokenCounts);

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  using namespace adamoe;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const Roof& roof = MachineRoof();
  benchmark::AddCustomContext("kernels", Name(ChosenIsa()));
  benchmark::AddCustomContext(
      "roof",
      absl::StrFormat("%.1f GB/s, %.0f GFLOP/s in float32, %.0f in bfloat16, %.0f in int16",
                      roof.gigabytes_per_second, roof.Gigaflops(Operands::kFloat32),
                      roof.Gigaflops(Operands::kBFloat16), roof.Gigaflops(Operands::kInt16)));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
