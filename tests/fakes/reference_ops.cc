#include "tests/fakes/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "server/kernels/packed.h"

namespace adamoe {
namespace {

double Element(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kBFloat16:
      return FloatFromBf16(static_cast<const uint16_t*>(data)[i]);
    case DType::kFloat16:
      return FloatFromF16(static_cast<const uint16_t*>(data)[i]);
    case DType::kFloat32:
      return static_cast<const float*>(data)[i];
    default:
      return std::nan("");  // packed
  }
}

std::vector<float> RowOf(const Matrix& w, int64_t row) {
  std::vector<float> values(w.cols);
  if (IsPacked(w.dtype)) {
    UnpackRow(w, row, values.data());
  } else {
    for (int64_t c = 0; c < w.cols; ++c) {
      values[c] = static_cast<float>(Element(w.data, w.dtype, row * w.cols + c));
    }
  }
  return values;
}

// A matrix product's input under a precision.
double Rounded(Precision precision, double x) {
  const float value = static_cast<float>(x);
  return precision == Precision::kFloat32 ? value : FloatFromBf16(Bf16FromFloat(value));
}

template <class X>
std::vector<double> Product(Precision precision, const Matrix& w, const X* x) {
  if (IsPacked(w.dtype)) precision = Precision::kFloat32;
  std::vector<double> y(w.rows, 0.0);
  for (int64_t r = 0; r < w.rows; ++r) {
    const std::vector<float> row = RowOf(w, r);
    for (int64_t c = 0; c < w.cols; ++c) y[r] += row[c] * Rounded(precision, x[c]);
  }
  return y;
}

// w2 (silu(w1 x) * w3 x).
std::vector<double> RunExpert(Precision precision, const ExpertWeights& expert, const float* x) {
  std::vector<double> gate = Product(precision, expert.w1, x);
  const std::vector<double> up = Product(precision, expert.w3, x);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1.0 + std::exp(-gate[i]));
  return Product(precision, expert.w2, gate.data());
}

void Store(double x, DType dtype, void* base, int64_t i) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(base)[i] = static_cast<float>(x);
  } else {
    static_cast<uint16_t*>(base)[i] = Bf16FromFloat(static_cast<float>(x));
  }
}

// One token's attention with one query head. begin, end: positions seen; table: the sequence's
// blocks.
void Attend(const float* q, const KvLayer& cache, const int32_t* table, int32_t begin, int32_t end,
            int32_t kv_head, float* out) {
  const auto offset = [&](int32_t position) {
    const int64_t slot =
        static_cast<int64_t>(table[position / cache.block_size]) * cache.block_size +
        position % cache.block_size;
    return (slot * cache.num_kv_heads + kv_head) * cache.head_dim;
  };
  std::vector<double> scores;
  for (int32_t p = begin; p < end; ++p) {
    double dot = 0.0;
    for (int32_t d = 0; d < cache.head_dim; ++d) {
      dot += q[d] * Element(cache.keys, cache.dtype, offset(p) + d);
    }
    scores.push_back(dot / std::sqrt(static_cast<double>(cache.head_dim)));
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> sum(cache.head_dim, 0.0);
  double total = 0.0;
  for (int32_t p = begin; p < end; ++p) {
    const double weight = std::exp(scores[p - begin] - largest);
    total += weight;
    for (int32_t d = 0; d < cache.head_dim; ++d) {
      sum[d] += weight * Element(cache.values, cache.dtype, offset(p) + d);
    }
  }
  for (int32_t d = 0; d < cache.head_dim; ++d) out[d] = static_cast<float>(sum[d] / total);
}

// The picks of one token, most probable first: the stable top-k of a softmax in float32.
std::vector<int32_t> Picks(const float* logits, float null_bias, const RouterParams& params,
                           std::vector<float>* probability) {
  const int32_t size = params.num_experts + params.num_null_experts;
  std::vector<float> biased(logits, logits + size);
  for (int32_t i = params.num_experts; i < size; ++i) biased[i] += null_bias;
  const float largest = *std::max_element(biased.begin(), biased.end());
  float sum = 0.0f;
  for (float logit : biased) sum += std::exp(logit - largest);
  probability->clear();
  for (float logit : biased) probability->push_back(std::exp(logit - largest) / sum);
  std::vector<int32_t> order(size);
  for (int32_t i = 0; i < size; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return (*probability)[a] > (*probability)[b]; });
  order.resize(params.experts_per_token);
  return order;
}

}  // namespace

void ReferenceOps::Embed(const Matrix& table, const int32_t* ids, int32_t num_tokens, float* out) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    const std::vector<float> row = RowOf(table, ids[t]);
    std::copy(row.begin(), row.end(), out + t * table.cols);
  }
}

void ReferenceOps::RmsNorm(const float* x, const float* weight, float eps, int32_t num_tokens,
                           int32_t hidden, float* out) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    double squares = 0.0;
    for (int64_t i = 0; i < hidden; ++i) {
      squares += static_cast<double>(x[t * hidden + i]) * x[t * hidden + i];
    }
    const double scale = 1.0 / std::sqrt(squares / hidden + eps);
    for (int64_t i = 0; i < hidden; ++i) {
      out[t * hidden + i] = static_cast<float>(x[t * hidden + i] * scale * weight[i]);
    }
  }
}

void ReferenceOps::Linear(const Matrix& w, const float* x, int32_t num_tokens, float* y) {
  for (int64_t t = 0; t < num_tokens; ++t) {
    const std::vector<double> row = Product(precision_, w, x + t * w.cols);
    std::copy(row.begin(), row.end(), y + t * w.rows);
  }
}

void ReferenceOps::LinearFloat32(const Matrix& w, const float* x, int32_t num_tokens, float* y) {
  ReferenceOps(Precision::kFloat32).Linear(w, x, num_tokens, y);
}

void ReferenceOps::Add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void ReferenceOps::Rope(const int32_t* positions, float theta, int32_t num_tokens,
                        int32_t num_heads, int32_t head_dim, float* x) {
  const int32_t half = head_dim / 2;
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int32_t i = 0; i < half; ++i) {
      // The angle is a float32 in the models' own code, which matters at large positions.
      const float frequency =
          1.0f / std::pow(theta, static_cast<float>(2 * i) / static_cast<float>(head_dim));
      const double angle = static_cast<float>(positions[t]) * frequency;
      for (int32_t h = 0; h < num_heads; ++h) {
        float* head = x + (t * num_heads + h) * head_dim;
        const double a = head[i];
        const double b = head[i + half];
        head[i] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
        head[i + half] = static_cast<float>(b * std::cos(angle) + a * std::sin(angle));
      }
    }
  }
}

void ReferenceOps::AppendKv(const float* keys, const float* values, const int32_t* slots,
                            int32_t num_tokens, const KvLayer& cache) {
  const int64_t width = static_cast<int64_t>(cache.num_kv_heads) * cache.head_dim;
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      Store(keys[t * width + i], cache.dtype, cache.keys, slots[t] * width + i);
      Store(values[t * width + i], cache.dtype, cache.values, slots[t] * width + i);
    }
  }
}

void ReferenceOps::Attention(const float* q, const KvLayer& cache, const AttentionBatch& batch,
                             int32_t num_heads, float* out) {
  const int32_t group = num_heads / cache.num_kv_heads;
  for (int64_t s = 0; s < batch.num_sequences; ++s) {
    const int32_t* table = batch.block_tables + s * batch.max_blocks;
    for (int64_t t = batch.token_begin[s]; t < batch.token_begin[s + 1]; ++t) {
      const int32_t end = batch.positions[t] + 1;
      const int32_t begin = batch.sliding_window > 0 ? std::max(end - batch.sliding_window, 0) : 0;
      for (int32_t h = 0; h < num_heads; ++h) {
        const int64_t row = (t * num_heads + h) * cache.head_dim;
        Attend(q + row, cache, table, begin, end, h / group, out + row);
      }
    }
  }
}

void ReferenceOps::Route(const float* logits, int32_t num_tokens, const RouterParams& params,
                         Routing* routing) {
  const int32_t size = params.num_experts + params.num_null_experts;
  std::vector<std::vector<std::pair<int32_t, float>>> rows(params.num_experts);
  routing->null_slots.assign(num_tokens, 0);
  routing->dropped.assign(num_tokens, 0);
  for (int32_t t = 0; t < num_tokens; ++t) {
    std::vector<float> probability;
    const float bias = params.null_bias != nullptr ? params.null_bias[t] : 0.0f;
    const uint32_t limit = params.max_experts != nullptr ? params.max_experts[t] : 0;
    std::vector<int32_t> kept;
    double sum = 0.0;
    for (int32_t pick :
         Picks(logits + static_cast<int64_t>(t) * size, bias, params, &probability)) {
      if (pick >= params.num_experts) {
        ++routing->null_slots[t];
      } else if (limit != 0 && kept.size() == limit) {
        ++routing->dropped[t];
      } else {
        kept.push_back(pick);
        sum += probability[pick];
      }
    }
    for (int32_t pick : kept) {
      rows[pick].emplace_back(t, static_cast<float>(probability[pick] / sum));
    }
  }
  routing->expert_begin.assign(1, 0);
  routing->row_token.clear();
  routing->row_weight.clear();
  for (const auto& expert_rows : rows) {
    for (const auto& [token, weight] : expert_rows) {
      routing->row_token.push_back(token);
      routing->row_weight.push_back(weight);
    }
    routing->expert_begin.push_back(static_cast<int32_t>(routing->row_token.size()));
  }
}

void ReferenceOps::Experts(const ExpertWeights* experts, const Routing& routing, const float* x,
                           int32_t num_tokens, float* out, uint8_t* executed) {
  const int64_t hidden = experts[0].w2.rows;
  std::vector<double> sum(num_tokens * hidden, 0.0);
  for (size_t e = 0; e + 1 < routing.expert_begin.size(); ++e) {
    for (int32_t row = routing.expert_begin[e]; row < routing.expert_begin[e + 1]; ++row) {
      const int64_t token = routing.row_token[row];
      const std::vector<double> y = RunExpert(precision_, experts[e], x + token * hidden);
      for (int64_t i = 0; i < hidden; ++i)
        sum[token * hidden + i] += routing.row_weight[row] * y[i];
      ++executed[token];
    }
  }
  std::copy(sum.begin(), sum.end(), out);
}

}  // namespace adamoe
