// AdaMoE's second setting (arXiv 2406.13233): a dense model in which each of the seven linear
// layers of a decoder layer has a router of its own over n LoRA experts and m null ones.
//
//   y = W x + (alpha / r) * sum over the true picks i of w_i B_i A_i x
//
// The weights w are the router's, over the true picks of a token alone; null picks compute nothing,
// and a token without a true pick gets W x.
//
// Tensors are shared handles: copying the structs copies no data. Thread-safe for concurrent calls
// on the same parameters.
#ifndef ADAMOE_TRAIN_MOLORA_MODEL_H_
#define ADAMOE_TRAIN_MOLORA_MODEL_H_

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/weights/model_config.h"
#include "train/mixtral_reference.h"
#include "train/model_folder.h"
#include "train/safetensors_writer.h"

namespace adamoe {

struct MoLoraConfig {
  int32_t num_experts = 8;        // n, LoRA experts of a linear layer
  int32_t num_null_experts = 0;   // m
  int32_t experts_per_token = 2;  // k
  int32_t rank = 8;               // r
  double alpha = 16;

  bool operator==(const MoLoraConfig&) const = default;
};

inline constexpr int32_t kMaxMoLoraRank = 65536;

// INVALID_ARGUMENT names the value that is out of range.
absl::Status CheckMoLoraConfig(const MoLoraConfig& config);

// The linear layers, in the order of MoLoraLayer and of ReferenceOutput::routing.
enum MoLoraTarget { kQTarget, kKTarget, kVTarget, kOTarget, kGateTarget, kUpTarget, kDownTarget };
inline constexpr int kNumMoLoraTargets = 7;
// As Hugging Face's Llama calls them: "self_attn.q_proj".
extern const std::array<const char*, kNumMoLoraTargets> kMoLoraTargetNames;

struct LinearShape {
  int64_t in = 0;
  int64_t out = 0;
};
std::array<LinearShape, kNumMoLoraTargets> MoLoraTargetShapes(const ModelConfig& base);

struct RoutedLora {
  at::Tensor router;  // [n + m, in], true experts first
  at::Tensor a;       // [n, r, in]
  at::Tensor b;       // [n, out, r]
};
using MoLoraLayer = std::array<RoutedLora, kNumMoLoraTargets>;

struct MoLora {
  MoLoraConfig config;
  std::vector<MoLoraLayer> layers;  // as many as the base has
};

// What a training starts from, in float32: routers normal with deviation 0.02, A uniform within 1 /
// sqrt(in) of 0, B zero, so that the model equals its base. Depends on the arguments alone.
// REQUIRES: CheckMoLoraConfig(config) is OK.
MoLora RandomMoLora(const ModelConfig& base, const MoLoraConfig& config, uint64_t seed);

// What the names of a linear layer's tensors begin with in an adapter folder:
// "base_model.model.model.layers.0.self_attn.q_proj.molora_".
std::string MoLoraTensorPrefix(int32_t layer, MoLoraTarget target);

// Every tensor under the name it has in an adapter folder, layer by layer.
NamedTensors MoLoraTensors(const MoLora& molora);

// Moves every tensor; those that are there already stay the same tensors.
void MoveTo(at::Device device, MoLora* molora);

// A copy to compute with: A and B in `matrix_type`, routers as they are. New leaves that require
// gradients, in the order of MoLoraTensors.
MoLora ComputeCopy(const MoLora& molora, at::ScalarType matrix_type);

// Full causal forward of every row from position 0; token_ids as in ReferenceForward. `base` has
// one expert. One RouterOutput per routed linear layer: [layers * 7]. Routers compute in the
// activation type.
ReferenceOutput MoLoraForward(const ReferenceModel& base, const MoLora& molora,
                              const at::Tensor& token_ids);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MOLORA_MODEL_H_
