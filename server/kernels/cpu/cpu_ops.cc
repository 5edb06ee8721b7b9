#include "server/kernels/cpu/cpu_ops.h"

#include "server/kernels/cpu/attention.h"
#include "server/kernels/cpu/experts.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/product.h"
#include "server/kernels/cpu/rope.h"
#include "server/kernels/cpu/route.h"

namespace adamoe {
namespace {

class CpuOps : public Ops {
 public:
  explicit CpuOps(const CpuOptions& options)
      : context_{options.pool, &KernelsFor(options.isa), options.precision} {}

  Precision precision() const override { return context_.precision; }

  void Embed(const Matrix& table, const int32_t* ids, int32_t num_tokens, float* out) override {
    const auto* rows = static_cast<const uint8_t*>(table.data);
    const int64_t row_bytes = table.cols * static_cast<int64_t>(SizeOf(table.dtype));
    ForEach(num_tokens, table.cols, [&](int64_t t) {
      context_.kernels->widen(rows + ids[t] * row_bytes, table.dtype, table.cols,
                              out + t * table.cols);
    });
  }

  void RmsNorm(const float* x, const float* weight, float eps, int32_t num_tokens, int32_t hidden,
               float* out) override {
    ForEach(num_tokens, hidden, [&](int64_t t) {
      context_.kernels->rms_norm(x + t * hidden, weight, eps, hidden, out + t * hidden);
    });
  }

  void Linear(const Matrix& w, const float* x, int32_t num_tokens, float* y) override {
    Multiply(context_, context_.precision, w, x, num_tokens, y);
  }

  void LinearFloat32(const Matrix& w, const float* x, int32_t num_tokens, float* y) override {
    Multiply(context_, Precision::kFloat32, w, x, num_tokens, y);
  }

  void Add(const float* x, int64_t n, float* y) override {
    context_.pool->ParallelFor(n, 1 << 16, [&](int64_t begin, int64_t end) {
      context_.kernels->add_scaled(1.0f, x + begin, end - begin, y + begin);
    });
  }

  void Rope(const int32_t* positions, float theta, int32_t num_tokens, int32_t num_heads,
            int32_t head_dim, float* x) override {
    angles_.Set(positions, num_tokens, theta, head_dim);
    const int64_t width = static_cast<int64_t>(num_heads) * head_dim;
    ForEach(num_tokens, width,
            [&](int64_t t) { angles_.Rotate(static_cast<int32_t>(t), num_heads, x + t * width); });
  }

  void AppendKv(const float* keys, const float* values, const int32_t* slots, int32_t num_tokens,
                const KvLayer& cache) override {
    AppendToCache(context_, keys, values, slots, num_tokens, cache);
  }

  void Attention(const float* q, const KvLayer& cache, const AttentionBatch& batch,
                 int32_t num_heads, float* out) override {
    RunAttention(context_, q, cache, batch, num_heads, out);
  }

  void Route(const float* logits, int32_t num_tokens, const RouterParams& params,
             Routing* routing) override {
    RouteTokens(logits, num_tokens, params, routing);
  }

  void Experts(const ExpertWeights* experts, const Routing& routing, const float* x,
               int32_t num_tokens, float* out, uint8_t* executed) override {
    RunExperts(context_, experts, routing, x, num_tokens, out, executed);
  }

 private:
  // Calls body(t) for every token, `width` numbers each.
  template <class Body>
  void ForEach(int64_t num_tokens, int64_t width, const Body& body) {
    context_.pool->ParallelFor(num_tokens, GrainFor(num_tokens, width),
                               [&](int64_t begin, int64_t end) {
                                 for (int64_t t = begin; t < end; ++t) body(t);
                               });
  }

  const CpuContext context_;
  RopeAngles angles_;
};

}  // namespace

const KernelTable& KernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAmx) return kAmxKernels;
  if (isa == Isa::kAvx512Bf16) return kAvx512Bf16Kernels;
  if (isa == Isa::kAvx512Vnni) return kAvx512VnniKernels;
  if (isa == Isa::kAvx512) return kAvx512Kernels;
  if (isa == Isa::kAvx2) return kAvx2Kernels;
#endif
  static_cast<void>(isa);
  return kScalarKernels;
}

std::unique_ptr<Ops> CreateCpuOps(const CpuOptions& options) {
  return std::make_unique<CpuOps>(options);
}

}  // namespace adamoe
