// The slow, obvious Mixtral / AdaMoE (arXiv 2406.13233): plain at:: operations, differentiable, no
// cache. What it says is what every kernel of the server must agree with.
//
// Thread-safe for concurrent calls on the same parameters.
#ifndef ADAMOE_TRAIN_MIXTRAL_REFERENCE_H_
#define ADAMOE_TRAIN_MIXTRAL_REFERENCE_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "server/weights/model_config.h"
#include "train/mixtral_parameters.h"

namespace adamoe {

struct RouterOutput {
  at::Tensor probabilities;  // [tokens, n + m], f32: softmax over true experts, then null ones
  at::Tensor picks;          // [tokens, k], i64: the k most probable, ties to the lowest index
  at::Tensor
      weights;  // [tokens, k], f32: over the true picks of a token, summing to 1; 0 at null picks
};

struct ReferenceOutput {
  at::Tensor logits;                  // [batch, length, vocab], f32
  std::vector<RouterOutput> routing;  // [layers]; its tokens are [batch * length], row-major
};

// The router alone. x: [tokens, hidden], f32; gate: [n, hidden]; gate2: [m, hidden].
RouterOutput Route(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& gate2,
                   int64_t experts_per_token);

// The final norm and the head. x: [..., hidden], the residual stream after the last layer ->
// [..., vocab].
at::Tensor FinalLogits(const ModelConfig& config, const MixtralParameters& parameters,
                       const at::Tensor& x);

// Full causal forward of every row from position 0. token_ids: [batch, length], i64, in [0,
// vocab), on any device; what is returned lies on that of the parameters.
// Matrices are multiplied in their own type (float32 or bfloat16), everything between them is
// float32.
ReferenceOutput ReferenceForward(const ModelConfig& config, const MixtralParameters& parameters,
                                 const at::Tensor& token_ids);

// How many true experts each position ran: [tokens, layers], i64.
at::Tensor TrueExpertCounts(const ModelConfig& config, const std::vector<RouterOutput>& routing);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MIXTRAL_REFERENCE_H_
