#include "tests/gpu/routing_probe.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"

namespace adamoe {
namespace {

// What a token's picks come to: the true experts kept, and how many slots were null.
struct Picks {
  std::vector<int32_t> kept;  // ascending
  int32_t num_null = 0;

  bool operator==(const Picks&) const = default;
};

// `order`: experts, likeliest first.
Picks PicksOf(const std::vector<int32_t>& order, const RouterParams& params, int32_t token) {
  const uint32_t limit = params.max_experts[token];
  Picks picks;
  for (int32_t rank = 0; rank < params.experts_per_token; ++rank) {
    if (order[rank] >= params.num_experts) {
      ++picks.num_null;
    } else if (limit == 0 || picks.kept.size() < limit) {
      picks.kept.push_back(order[rank]);
    }
  }
  std::sort(picks.kept.begin(), picks.kept.end());
  return picks;
}

// With the bias of the dial.
std::vector<float> BiasedLogits(const float* logits, const RouterParams& params, int32_t token) {
  const int32_t width = params.num_experts + params.num_null_experts;
  std::vector<float> biased(logits, logits + width);
  for (int32_t i = params.num_experts; i < width; ++i) biased[i] += params.null_bias[token];
  return biased;
}

double Probability(const std::vector<float>& logits, int32_t expert) {
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(double{logit} - logits[expert]);
  return 1.0 / sum;
}

// The standard deviation of the difference of two logits under an error of x as long as x.
double Scale(const float* x, const Matrix& router, int32_t a, int32_t b) {
  const float* const rows = static_cast<const float*>(router.data);
  double length = 0.0;
  double apart = 0.0;
  for (int64_t i = 0; i < router.cols; ++i) {
    const double difference = double{rows[a * router.cols + i]} - rows[b * router.cols + i];
    length += double{x[i]} * x[i];
    apart += difference * difference;
  }
  return std::sqrt(length * apart / static_cast<double>(router.cols));
}

}  // namespace

// Hands everything on, the router's logits by way of the probe.
class ProbedOps : public Ops {
 public:
  ProbedOps(std::unique_ptr<Ops> ops, RoutingProbe* probe) : ops_(std::move(ops)), probe_(probe) {}

  Precision precision() const override { return ops_->precision(); }
  void Embed(const Matrix& table, const int32_t* ids, int32_t num_tokens, float* out) override {
    ops_->Embed(table, ids, num_tokens, out);
  }
  void RmsNorm(const float* x, const float* weight, float eps, int32_t num_tokens, int32_t hidden,
               float* out) override {
    ops_->RmsNorm(x, weight, eps, num_tokens, hidden, out);
  }
  void Linear(const Matrix& w, const float* x, int32_t num_tokens, float* y) override {
    ops_->Linear(w, x, num_tokens, y);
  }
  // The router's, whose picks are made from its result next.
  void LinearFloat32(const Matrix& w, const float* x, int32_t num_tokens, float* y) override {
    router_ = w;
    x_ = x;
    ops_->LinearFloat32(w, x, num_tokens, y);
  }
  void Add(const float* x, int64_t n, float* y) override { ops_->Add(x, n, y); }
  void Rope(const int32_t* positions, float theta, int32_t num_tokens, int32_t num_heads,
            int32_t head_dim, float* x) override {
    ops_->Rope(positions, theta, num_tokens, num_heads, head_dim, x);
  }
  void AppendKv(const float* keys, const float* values, const int32_t* slots, int32_t num_tokens,
                const KvLayer& cache) override {
    ops_->AppendKv(keys, values, slots, num_tokens, cache);
  }
  void Attention(const float* q, const KvLayer& cache, const AttentionBatch& batch,
                 int32_t num_heads, float* out) override {
    ops_->Attention(q, cache, batch, num_heads, out);
  }
  void Route(const float* logits, int32_t num_tokens, const RouterParams& params,
             Routing* routing) override {
    logits_.assign(logits, logits + num_tokens * router_.rows);
    probe_->Route(&logits_, x_, router_, num_tokens, params);
    ops_->Route(logits_.data(), num_tokens, params, routing);
  }
  void Experts(const ExpertWeights* experts, const Routing& routing, const float* x,
               int32_t num_tokens, float* out, uint8_t* executed) override {
    ops_->Experts(experts, routing, x, num_tokens, out, executed);
  }

 private:
  const std::unique_ptr<Ops> ops_;
  RoutingProbe* const probe_;
  Matrix router_;
  const float* x_ = nullptr;
  std::vector<float> logits_;
};

std::string RouterTie::ToString() const {
  return absl::StrFormat(
      "step %d, token %d, layer %d: experts %d and %d with probabilities %.5f and %.5f, gap %.5f",
      step, token, layer, likelier, other, probabilities[0], probabilities[1], gap);
}

RoutingProbe::RoutingProbe(int32_t num_layers, double tolerance)
    : num_layers_(num_layers), tolerance_(tolerance) {}

std::unique_ptr<Ops> RoutingProbe::Wrap(std::unique_ptr<Ops> ops) {
  return std::make_unique<ProbedOps>(std::move(ops), this);
}

void RoutingProbe::Restart(std::vector<RouterTie> exchanged) {
  num_calls_ = 0;
  exchanged_ = std::move(exchanged);
  ties_.clear();
}

void RoutingProbe::Route(std::vector<float>* logits, const float* x, const Matrix& router,
                         int32_t num_tokens, const RouterParams& params) {
  const int64_t step = num_calls_ / num_layers_;
  const auto layer = static_cast<int32_t>(num_calls_ % num_layers_);
  ++num_calls_;
  std::vector<bool> was_exchanged(num_tokens);
  for (const RouterTie& tie : exchanged_) {
    if (tie.step != step || tie.layer != layer) continue;
    float* const of_token = logits->data() + tie.token * router.rows;
    const std::vector<float> biased = BiasedLogits(of_token, params, tie.token);
    const auto put = [&](int32_t expert, float logit) {
      const bool is_null = expert >= params.num_experts;
      of_token[expert] = logit - (is_null ? params.null_bias[tie.token] : 0.0f);
    };
    put(tie.likelier, biased[tie.other]);
    put(tie.other, biased[tie.likelier]);
    was_exchanged[tie.token] = true;
  }
  for (int32_t token = 0; token < num_tokens; ++token) {
    if (!was_exchanged[token]) {
      FindTies(*logits, x + token * router.cols, router, token, params);
    }
  }
}

void RoutingProbe::FindTies(const std::vector<float>& logits, const float* x, const Matrix& router,
                            int32_t token, const RouterParams& params) {
  const auto width = static_cast<int32_t>(router.rows);
  const std::vector<float> biased = BiasedLogits(&logits[token * width], params, token);
  std::vector<int32_t> order(width);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&biased](int32_t a, int32_t b) { return biased[a] > biased[b]; });
  const Picks picks = PicksOf(order, params, token);
  for (int32_t first = 0; first < params.experts_per_token; ++first) {
    for (int32_t second = first + 1; second < width; ++second) {
      const int32_t likelier = order[first];
      const int32_t other = order[second];
      const double gap =
          (double{biased[likelier]} - biased[other]) / Scale(x, router, likelier, other);
      if (!(gap <= tolerance_)) continue;
      std::vector<int32_t> exchanged = order;
      std::swap(exchanged[first], exchanged[second]);
      if (PicksOf(exchanged, params, token) == picks) continue;
      ties_.push_back(
          {.step = (num_calls_ - 1) / num_layers_,
           .token = token,
           .layer = static_cast<int32_t>((num_calls_ - 1) % num_layers_),
           .likelier = likelier,
           .other = other,
           .gap = gap,
           .probabilities = {Probability(biased, likelier), Probability(biased, other)}});
    }
  }
}

}  // namespace adamoe
