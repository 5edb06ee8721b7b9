// The one table of a Mixtral or AdaMoE checkpoint's tensors: every name and shape, in the model's
// order. Loading and writing checkpoints both go through it. Pure functions; no I/O.
//
//   for (const TensorSpec& spec : MixtralTensors(config)) Write(spec.name, spec.shape, ...);
#ifndef ADAMOE_SERVER_WEIGHTS_TENSOR_TABLE_H_
#define ADAMOE_SERVER_WEIGHTS_TENSOR_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "server/weights/model_config.h"

namespace adamoe {

enum class TensorRole : uint8_t {
  kEmbedTokens,
  kInputNorm,
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kPostAttnNorm,
  kGate,
  kGate2,
  kW1,
  kW2,
  kW3,
  kNorm,
  kLmHead,
};

struct TensorSpec {
  TensorRole role;
  int32_t layer = -1;   // -1: not of a layer
  int32_t expert = -1;  // -1: not of an expert
  std::string name;     // "model.layers.0.block_sparse_moe.gate.weight"
  std::vector<int64_t> shape;
};

// Name and shape of one tensor. `layer` and `expert` are used where the role has them.
TensorSpec SpecOf(TensorRole role, const ModelConfig& config, int32_t layer = -1,
                  int32_t expert = -1);

// Visits all tensors of a model of `config`, one at a time, until a visit fails: gate2 when
// num_null_experts > 0, lm_head unless the embeddings are tied.
absl::Status ForEachTensor(const ModelConfig& config,
                           absl::FunctionRef<absl::Status(TensorSpec spec)> visit);

// The same as a list.
std::vector<TensorSpec> MixtralTensors(const ModelConfig& config);

// True for linear layers that an adapter may change.
bool TakesAdapter(TensorRole role);

// True for names that some checkpoints hold and no model needs: rotary_emb.inv_freq, which
// config.json determines.
bool IsDerivedTensor(const std::string& name);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_TENSOR_TABLE_H_
