// What the model asks of a device: a few operations over raw pointers, implemented by kernels/cpu
// (and by a plugin for GPUs). The method is AdaMoE (arXiv 2406.13233) on Mixtral (arXiv
// 2401.04088).
//
// Pointers are memory of the ops' device, owned by the caller, and may not overlap unless an
// operation says so. Activations are float32 between operations. With Precision::kBFloat16 the
// matrix products round their inputs to bfloat16 (and accumulate in float32); with kFloat32 every
// result is independent of how many tokens share the call and of the number of threads, bit for
// bit. Packed weights take their inputs as 16-bit integers, with a scale for every 64, in either
// precision. Thread-compatible: one thread at a time; an implementation spreads the work itself.
#ifndef ADAMOE_SERVER_KERNELS_OPS_H_
#define ADAMOE_SERVER_KERNELS_OPS_H_

#include <cstdint>
#include <vector>

#include "server/base/dtype.h"

namespace adamoe {

enum class Precision : uint8_t { kFloat32, kBFloat16 };

// Weights of y = W x: [rows, cols]; rows = outputs, cols = inputs. Row major and contiguous, or
// packed (kernels/packed.h).
struct Matrix {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t cols = 0;
  const uint16_t* scales = nullptr;  // of packed types, bfloat16
};

// One true expert: E(x) = w2 (silu(w1 x) * w3 x). w1 and w3 have one type, and so have all experts
// of a layer.
struct ExpertWeights {
  Matrix w1;  // [intermediate, hidden]
  Matrix w2;  // [hidden, intermediate]
  Matrix w3;  // [intermediate, hidden]
};

// One layer's share of the paged KV cache. Element type: float32 or bfloat16, as `dtype` says.
struct KvLayer {
  void* keys = nullptr;    // [num_blocks, block_size, num_kv_heads, head_dim]
  void* values = nullptr;  // the same shape
  DType dtype = DType::kFloat32;
  int32_t block_size = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
};

// Which positions attend to which cache slots.
struct AttentionBatch {
  int32_t num_sequences = 0;
  const int32_t* token_begin = nullptr;   // [num_sequences + 1]
  const int32_t* positions = nullptr;     // [num_tokens]
  const int32_t* block_tables = nullptr;  // [num_sequences, max_blocks]
  int32_t max_blocks = 0;
  int32_t sliding_window = 0;  // keys a position sees, its own included; 0: all
};

struct RouterParams {
  int32_t num_experts = 0;                // n
  int32_t num_null_experts = 0;           // m
  int32_t experts_per_token = 0;          // k, 1 <= k <= n + m
  const float* null_bias = nullptr;       // [num_tokens], added to null logits
  const uint32_t* max_experts = nullptr;  // [num_tokens], 0: no limit
};

// The true picks of a batch, gathered by expert (a counting sort). Null picks appear nowhere but in
// null_slots.
struct Routing {
  std::vector<int32_t> expert_begin;  // [n + 1], first row of each expert, then num_rows
  std::vector<int32_t> row_token;     // [num_rows], ascending within an expert
  std::vector<float> row_weight;      // [num_rows], p_i over the sum of the token's kept true picks
  std::vector<uint8_t> null_slots;    // [num_tokens]
  std::vector<uint8_t> dropped;       // [num_tokens], true picks cut by max_experts
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual Precision precision() const = 0;

  // out[t] = table[ids[t]]. table: [vocab, hidden], not packed; ids: [num_tokens]; out:
  // [num_tokens, hidden].
  virtual void Embed(const Matrix& table, const int32_t* ids, int32_t num_tokens, float* out) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight, per row. x, out: [num_tokens, hidden], may be the
  // same; weight: [hidden].
  virtual void RmsNorm(const float* x, const float* weight, float eps, int32_t num_tokens,
                       int32_t hidden, float* out) = 0;

  // y = x W^T. x: [num_tokens, w.cols]; y: [num_tokens, w.rows].
  virtual void Linear(const Matrix& w, const float* x, int32_t num_tokens, float* y) = 0;

  // As Linear, but in float32 throughout whatever the precision: for the router, whose picks are
  // discrete. w is not packed.
  virtual void LinearFloat32(const Matrix& w, const float* x, int32_t num_tokens, float* y) = 0;

  // y += x. Both [n].
  virtual void Add(const float* x, int64_t n, float* y) = 0;

  // Rotates pairs (i, i + head_dim / 2) of every head by position * theta^(-2 i / head_dim), in
  // place, as Hugging Face's Mixtral does. x: [num_tokens, num_heads, head_dim]; positions:
  // [num_tokens].
  virtual void Rope(const int32_t* positions, float theta, int32_t num_tokens, int32_t num_heads,
                    int32_t head_dim, float* x) = 0;

  // Stores keys and values, [num_tokens, num_kv_heads, head_dim] each, at slots [num_tokens].
  virtual void AppendKv(const float* keys, const float* values, const int32_t* slots,
                        int32_t num_tokens, const KvLayer& cache) = 0;

  // Causal grouped-query attention over the cache (this step's keys already appended), scale 1 /
  // sqrt(head_dim). q, out: [num_tokens, num_heads, head_dim]; num_heads is a multiple of
  // cache.num_kv_heads.
  virtual void Attention(const float* q, const KvLayer& cache, const AttentionBatch& batch,
                         int32_t num_heads, float* out) = 0;

  // AdaMoE routing: softmax over n + m logits in float32, the k largest (ties: lowest index), null
  // picks dropped, weights renormalised over the true picks kept. logits: [num_tokens, n + m], true
  // experts first.
  virtual void Route(const float* logits, int32_t num_tokens, const RouterParams& params,
                     Routing* routing) = 0;

  // out[t] = sum over t's rows of row_weight * E(x[t]), in ascending order of expert; exactly 0 for
  // a token without rows. Adds 1 to executed[t] for each row as it is run. experts: [n]; x, out:
  // [num_tokens, hidden]; executed: [num_tokens], not cleared here.
  virtual void Experts(const ExpertWeights* experts, const Routing& routing, const float* x,
                       int32_t num_tokens, float* out, uint8_t* executed) = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_OPS_H_
