// The operations of ops.h as plain loops in double precision: slow, obvious, and what every fast
// kernel must agree with.
//
// Inputs are rounded where Precision::kBFloat16 says so, to nothing else; results are rounded to
// float32 once.
#ifndef ADAMOE_TESTS_FAKES_REFERENCE_OPS_H_
#define ADAMOE_TESTS_FAKES_REFERENCE_OPS_H_

#include "server/kernels/ops.h"

namespace adamoe {

class ReferenceOps : public Ops {
 public:
  explicit ReferenceOps(Precision precision = Precision::kFloat32) : precision_(precision) {}

  Precision precision() const override { return precision_; }
  void Embed(const Matrix& table, const int32_t* ids, int32_t num_tokens, float* out) override;
  void RmsNorm(const float* x, const float* weight, float eps, int32_t num_tokens, int32_t hidden,
               float* out) override;
  void Linear(const Matrix& w, const float* x, int32_t num_tokens, float* y) override;
  void LinearFloat32(const Matrix& w, const float* x, int32_t num_tokens, float* y) override;
  void Add(const float* x, int64_t n, float* y) override;
  void Rope(const int32_t* positions, float theta, int32_t num_tokens, int32_t num_heads,
            int32_t head_dim, float* x) override;
  void AppendKv(const float* keys, const float* values, const int32_t* slots, int32_t num_tokens,
                const KvLayer& cache) override;
  void Attention(const float* q, const KvLayer& cache, const AttentionBatch& batch,
                 int32_t num_heads, float* out) override;
  void Route(const float* logits, int32_t num_tokens, const RouterParams& params,
             Routing* routing) override;
  void Experts(const ExpertWeights* experts, const Routing& routing, const float* x,
               int32_t num_tokens, float* out, uint8_t* executed) override;

 private:
  const Precision precision_;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_REFERENCE_OPS_H_
