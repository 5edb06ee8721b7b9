#include "tests/bench/roof.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define ADAMOE_TARGET(flags) __attribute__((target(flags)))
#else
#define ADAMOE_TARGET(flags)
#endif

namespace adamoe {
namespace {

constexpr int kPasses = 6;
constexpr int64_t kBytes = int64_t{1} << 30;

// The shortest of some runs of body(thread) on all threads, in seconds.
double Fastest(int num_threads, const std::function<void(int)>& body) {
  double best = 1e9;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (int t = 0; t < num_threads; ++t) threads.emplace_back(body, t);
    for (std::thread& thread : threads) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::min(best, seconds.count());
  }
  return best;
}

// A cache line at a time, from eight places side by side, each asked for ahead: one stream alone
// reads less on most processors.
using Line = uint64_t __attribute__((vector_size(64)));
constexpr int kStreams = 8;
constexpr int kLinesAhead = 16;

template <class V>
void Keep(V& value) {
  asm volatile("" : : "m"(value) : "memory");
}

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
void ReadLines(const Line* lines, int64_t n) {
  Line sums[2] = {};
  const int64_t part = n / kStreams;
  for (int64_t i = 0; i < part; ++i) {
    for (int s = 0; s < kStreams; ++s) {
      __builtin_prefetch(lines + s * part + i + kLinesAhead);
      sums[s % 2] += lines[s * part + i];
    }
  }
  sums[0] += sums[1];
  Keep(sums);
}

// Products that depend on nothing but their own sum, in as many chains as hide the latency.
constexpr int kChains = 12;
constexpr int64_t kRounds = 2'000'000;

// V: the vector; Product(sum, a) adds a * a to the sum.
#define ADAMOE_CHAINS(name, flags, V, product)                     \
  ADAMOE_TARGET(flags) void name(int64_t rounds) {                 \
    V a = {};                                                      \
    V sum[kChains] = {};                                           \
    for (int64_t i = 0; i < rounds; ++i) {                         \
      _Pragma("GCC unroll 16") for (int c = 0; c < kChains; ++c) { \
        asm volatile("" : "+x"(a));                                \
        sum[c] = product;                                          \
      }                                                            \
    }                                                              \
    for (V & s : sum) Keep(s);                                     \
  }

using Quad = float __attribute__((vector_size(16)));
using Shorts = int16_t __attribute__((vector_size(16)));

ADAMOE_CHAINS(FloatsScalar, "sse2", Quad, sum[c] + a * a)
ADAMOE_CHAINS(IntegersScalar, "sse2", Shorts, sum[c] + a * a)
#if defined(__x86_64__)
// The compiler's own intrinsic copies the sum before and after.
ADAMOE_TARGET("avx512f,avx512vnni") inline __m512i AddPairs(__m512i sum, __m512i a) {
  asm("vpdpwssd %1, %1, %0" : "+v"(sum) : "v"(a));
  return sum;
}
ADAMOE_CHAINS(FloatsAvx2, "avx2,fma", __m256, _mm256_fmadd_ps(a, a, sum[c]))
ADAMOE_CHAINS(IntegersAvx2, "avx2", __m256i, _mm256_add_epi32(sum[c], _mm256_madd_epi16(a, a)))
ADAMOE_CHAINS(FloatsAvx512, "avx512f", __m512, _mm512_fmadd_ps(a, a, sum[c]))
ADAMOE_CHAINS(IntegersAvx512, "avx512f,avx512bw", __m512i,
              _mm512_add_epi32(sum[c], _mm512_madd_epi16(a, a)))
ADAMOE_CHAINS(IntegersVnni, "avx512f,avx512vnni", __m512i, AddPairs(sum[c], a))
ADAMOE_CHAINS(Bf16Avx512, "avx512f,avx512bf16", __m512,
              _mm512_dpbf16_ps(sum[c], reinterpret_cast<__m512bh>(a),
                               reinterpret_cast<__m512bh>(a)))

// Four tiles of sums, each waiting for its last product.
ADAMOE_TARGET("amx-tile,amx-bf16") void TilesAmx(int64_t rounds) {
  struct alignas(64) Shapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static_assert(kChains % 4 == 0);
  // Not on the stack: to the compiler, loading the shapes reads their first bytes only.
  static constexpr Shapes shapes;
  _tile_loadconfig(&shapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t i = 0; i < rounds * (kChains / 4); ++i) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
}
#endif

struct Chains {
  void (*run)(int64_t rounds);
  int products;  // of one instruction
};

Chains ChainsFor(Isa isa, Operands operands) {
  const bool integers = operands == Operands::kInt16;
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAmx:
      if (operands == Operands::kBFloat16) return {TilesAmx, 16 * 16 * 32};
      [[fallthrough]];
    case Isa::kAvx512Bf16:
      if (integers) return {IntegersVnni, 32};
      return operands == Operands::kBFloat16 ? Chains{Bf16Avx512, 32} : Chains{FloatsAvx512, 16};
    case Isa::kAvx512Vnni:
      return integers ? Chains{IntegersVnni, 32} : Chains{FloatsAvx512, 16};
    case Isa::kAvx512:
      return integers ? Chains{IntegersAvx512, 32} : Chains{FloatsAvx512, 16};
    case Isa::kAvx2:
      return integers ? Chains{IntegersAvx2, 16} : Chains{FloatsAvx2, 8};
    case Isa::kScalar:
      break;
  }
#endif
  static_cast<void>(isa);
  return integers ? Chains{IntegersScalar, 8} : Chains{FloatsScalar, 4};
}

}  // namespace

double ReadBandwidth(int num_threads) {
  const std::vector<uint8_t> memory(kBytes + 64 * kLinesAhead + 64, 1);
  const auto aligned = (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64;
  const auto* lines = reinterpret_cast<const Line*>(aligned);
  const int64_t part = kBytes / 64 / num_threads / kStreams * kStreams;
  const double seconds =
      Fastest(num_threads, [&](int thread) { ReadLines(lines + thread * part, part); });
  return static_cast<double>(part * 64 * num_threads) / seconds * 1e-9;
}

double ArithmeticRate(Isa isa, Operands operands, int num_threads) {
  const Chains chains = ChainsFor(isa, operands);
  const double seconds = Fastest(num_threads, [&](int) { chains.run(kRounds); });
  return 2.0 * chains.products * kChains * static_cast<double>(kRounds) * num_threads / seconds *
         1e-9;
}

}  // namespace adamoe
