// The launchers of server/kernels/cuda as plain loops over host memory: what their headers promise,
// in the obvious way. The host's side of the CUDA backend is tested with them.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "server/base/dtype.h"
#include "server/base/thread_pool.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/elementwise.h"
#include "server/kernels/cuda/experts.h"
#include "server/kernels/cuda/router.h"

namespace adamoe::cuda {
namespace {

float Dot(const Bf16* a, const Bf16* b, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += FloatFromBf16(a[i]) * FloatFromBf16(b[i]);
  return sum;
}

void Normalize(const RmsNormArgs& args, const float* x, int64_t row) {
  double sum = 0.0;
  for (int32_t i = 0; i < args.hidden; ++i) sum += double{x[i]} * x[i];
  const double scale = 1.0 / std::sqrt(sum / args.hidden + args.eps);
  for (int32_t i = 0; i < args.hidden; ++i) {
    const float value = static_cast<float>(x[i] * scale * args.weight[i]);
    args.normed[row * args.hidden + i] = Bf16FromFloat(value);
    if (args.normed_float32 != nullptr) args.normed_float32[row * args.hidden + i] = value;
  }
}

// Its routing is what the device's must be.
Ops& CpuOps() {
  static ThreadPool* const pool = new ThreadPool(1);
  static Ops* const ops =
      CreateCpuOps({.pool = pool, .precision = Precision::kFloat32, .isa = BestIsa()}).release();
  return *ops;
}

// A position's keys (or values) of one head.
const Bf16* Cached(const AttentionArgs& args, const Bf16* cache, const int32_t* table,
                   int32_t position, int32_t kv_head) {
  const KvCache& kv = args.cache;
  const int64_t slot =
      int64_t{table[position / kv.block_size]} * kv.block_size + position % kv.block_size;
  return cache + (slot * kv.num_kv_heads + kv_head) * kv.head_dim;
}

void AttendHead(const AttentionArgs& args, const AttentionWork& work, int32_t token, int32_t head) {
  const int32_t dim = args.cache.head_dim;
  const int32_t kv_head = head / (args.num_heads / args.cache.num_kv_heads);
  const float* const query = args.queries + token * args.query_stride + int64_t{head} * dim;
  const int32_t* const table = args.block_tables + int64_t{work.sequence} * args.max_blocks;
  const int32_t last = args.positions[token];
  const int32_t first = args.sliding_window > 0 ? std::max(0, last + 1 - args.sliding_window) : 0;
  std::vector<double> scores;
  for (int32_t p = first; p <= last; ++p) {
    const Bf16* const key = Cached(args, args.cache.keys, table, p, kv_head);
    double score = 0.0;
    for (int32_t i = 0; i < dim; ++i) score += double{query[i]} * FloatFromBf16(key[i]);
    scores.push_back(score / std::sqrt(static_cast<double>(dim)));
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  std::vector<double> out(dim);
  for (int32_t p = first; p <= last; ++p) {
    const double weight = std::exp(scores[p - first] - max);
    const Bf16* const value = Cached(args, args.cache.values, table, p, kv_head);
    for (int32_t i = 0; i < dim; ++i) out[i] += weight * FloatFromBf16(value[i]);
    sum += weight;
  }
  Bf16* const to = args.out + (int64_t{token} * args.num_heads + head) * dim;
  for (int32_t i = 0; i < dim; ++i) to[i] = Bf16FromFloat(static_cast<float>(out[i] / sum));
}

void Attend(const AttentionArgs& args, const AttentionWork* work, int32_t num_work) {
  for (int32_t w = 0; w < num_work; ++w) {
    for (int32_t t = work[w].first_token; t < work[w].first_token + work[w].num_tokens; ++t) {
      for (int32_t head = 0; head < args.num_heads; ++head) AttendHead(args, work[w], t, head);
    }
  }
}

void RunExperts(const ExpertsArgs& args, const DeviceRouting& routing) {
  const int64_t size = int64_t{args.intermediate} * args.hidden;
  for (int32_t e = 0; e < routing.num_experts; ++e) {
    for (int64_t row = routing.expert_begin[e]; row < routing.expert_begin[e + 1]; ++row) {
      const int32_t token = routing.row_token[row];
      const Bf16* const x = args.x + int64_t{token} * args.hidden;
      Bf16* const inner = args.inner + row * args.intermediate;
      for (int32_t i = 0; i < args.intermediate; ++i) {
        const float gate = Dot(args.w1 + e * size + int64_t{i} * args.hidden, x, args.hidden);
        const float up = Dot(args.w3 + e * size + int64_t{i} * args.hidden, x, args.hidden);
        inner[i] = Bf16FromFloat(gate / (1.0f + std::exp(-gate)) * up);
      }
      for (int32_t i = 0; i < args.hidden; ++i) {
        args.rows_out[row * args.hidden + i] =
            Dot(args.w2 + e * size + int64_t{i} * args.intermediate, inner, args.intermediate);
      }
      ++args.executed[token * args.slot_stride];
      ++args.expert_rows[e];
    }
  }
}

}  // namespace

cudaError_t Embed(const Bf16* table, const int32_t* ids, int32_t num_tokens, int32_t hidden,
                  float* residual, cudaStream_t) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int32_t i = 0; i < hidden; ++i) {
      residual[t * hidden + i] = FloatFromBf16(table[int64_t{ids[t]} * hidden + i]);
    }
  }
  return cudaSuccess;
}

cudaError_t RmsNorm(const RmsNormArgs& args, cudaStream_t) {
  for (int64_t i = 0; i < args.num_rows; ++i) {
    const int64_t row = args.rows != nullptr ? args.rows[i] : i;
    Normalize(args, args.residual + row * args.hidden, i);
  }
  return cudaSuccess;
}

cudaError_t CombineRmsNorm(const DeviceRouting& routing, const float* rows_out,
                           const RmsNormArgs& args, cudaStream_t) {
  for (int64_t t = 0; t < routing.num_tokens; ++t) {
    float* const x = args.residual + t * args.hidden;
    const int32_t num_rows = routing.num_token_rows[t];
    for (int32_t i = 0; i < args.hidden && num_rows > 0; ++i) {
      float sum = 0.0f;
      for (int32_t r = 0; r < num_rows; ++r) {
        const int64_t row = routing.token_rows[t * routing.max_picks + r];
        sum += routing.row_weight[row] * rows_out[row * args.hidden + i];
      }
      x[i] += sum;
    }
    if (args.normed != nullptr) Normalize(args, x, t);
  }
  return cudaSuccess;
}

cudaError_t RopeAppendKv(const RopeAppendArgs& args, cudaStream_t) {
  const KvCache& kv = args.cache;
  const int32_t half = kv.head_dim / 2;
  const int64_t stride = int64_t{args.num_heads + 2 * kv.num_kv_heads} * kv.head_dim;
  for (int64_t t = 0; t < args.num_tokens; ++t) {
    const auto rotate = [&](const float* x, auto store) {
      for (int32_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(args.positions[t]) * args.inverse_frequency[i];
        const float low = x[i];
        const float high = x[i + half];
        store(i, low * std::cos(angle) - high * std::sin(angle));
        store(i + half, high * std::cos(angle) + low * std::sin(angle));
      }
    };
    float* const token = args.qkv + t * stride;
    for (int32_t h = 0; h < args.num_heads; ++h) {
      float* const query = token + int64_t{h} * kv.head_dim;
      rotate(query, [query](int32_t i, float value) { query[i] = value; });
    }
    if (args.slots[t] < 0) continue;
    const float* const keys = token + int64_t{args.num_heads} * kv.head_dim;
    const int64_t width = int64_t{kv.num_kv_heads} * kv.head_dim;
    for (int32_t h = 0; h < kv.num_kv_heads; ++h) {
      Bf16* const out = kv.keys + args.slots[t] * width + int64_t{h} * kv.head_dim;
      rotate(keys + int64_t{h} * kv.head_dim,
             [out](int32_t i, float value) { out[i] = Bf16FromFloat(value); });
    }
    for (int64_t i = 0; i < width; ++i) {
      kv.values[args.slots[t] * width + i] = Bf16FromFloat(keys[width + i]);
    }
  }
  return cudaSuccess;
}

cudaError_t AttendDecode(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                         int32_t, void*, cudaStream_t) {
  Attend(args, work, num_work);
  return cudaSuccess;
}

cudaError_t AttendPrefill(const AttentionArgs& args, const AttentionWork* work, int32_t num_work,
                          cudaStream_t) {
  Attend(args, work, num_work);
  return cudaSuccess;
}

cudaError_t RouterLogits(const float* x, const float* router, int32_t num_tokens, int32_t hidden,
                         int32_t width, float* logits, cudaStream_t) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t e = 0; e < width; ++e) {
      double sum = 0.0;
      for (int32_t i = 0; i < hidden; ++i)
        sum += double{x[t * hidden + i]} * router[e * hidden + i];
      logits[t * width + e] = static_cast<float>(sum);
    }
  }
  return cudaSuccess;
}

cudaError_t Route(const RouteArgs& args, const DeviceRouting& routing, cudaStream_t) {
  const int32_t num_valid = args.num_valid_tokens != nullptr
                                ? std::min(*args.num_valid_tokens, routing.num_tokens)
                                : routing.num_tokens;
  Routing picks;
  CpuOps().Route(args.logits, num_valid,
                 {.num_experts = routing.num_experts,
                  .num_null_experts = args.num_null_experts,
                  .experts_per_token = args.experts_per_token,
                  .null_bias = args.null_bias,
                  .max_experts = args.max_experts},
                 &picks);
  std::copy(picks.expert_begin.begin(), picks.expert_begin.end(), routing.expert_begin);
  std::copy(picks.row_token.begin(), picks.row_token.end(), routing.row_token);
  std::copy(picks.row_weight.begin(), picks.row_weight.end(), routing.row_weight);
  std::fill_n(routing.num_token_rows, routing.num_tokens, 0);
  for (size_t row = 0; row < picks.row_token.size(); ++row) {
    const int64_t token = picks.row_token[row];
    routing.token_rows[token * routing.max_picks + routing.num_token_rows[token]++] =
        static_cast<int32_t>(row);
  }
  for (int64_t t = 0; t < num_valid; ++t) {
    args.null_slots[t * args.slot_stride] = picks.null_slots[t];
    args.dropped[t * args.slot_stride] = picks.dropped[t];
  }
  return cudaSuccess;
}

cudaError_t ExpertsDecode(const ExpertsArgs& args, const DeviceRouting& routing, cudaStream_t) {
  RunExperts(args, routing);
  return cudaSuccess;
}

cudaError_t ExpertsPrefill(const ExpertsArgs& args, const DeviceRouting& routing, GemmInstruction,
                           cudaStream_t) {
  RunExperts(args, routing);
  return cudaSuccess;
}

}  // namespace adamoe::cuda
