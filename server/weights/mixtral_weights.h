// A loaded checkpoint folder: config and every tensor of a Mixtral or AdaMoE model, mapped from its
// files.
//
// Forms accepted: plain Mixtral; AdaMoE merged (block_sparse_moe.gate2.weight present); either with
// a PEFT adapter folder of AdaMoE's official training merged in at load, in float32. Immutable
// after loading; thread-safe.
#ifndef ADAMOE_SERVER_WEIGHTS_MIXTRAL_WEIGHTS_H_
#define ADAMOE_SERVER_WEIGHTS_MIXTRAL_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/weights/model_config.h"
#include "server/weights/tensor_view.h"

namespace adamoe {

struct MixtralLayerWeights {
  TensorView input_norm;      // [hidden]
  TensorView post_attn_norm;  // [hidden]
  TensorView q_proj;          // [heads * head_dim, hidden]
  TensorView k_proj;          // [kv_heads * head_dim, hidden]
  TensorView v_proj;          // [kv_heads * head_dim, hidden]
  TensorView o_proj;          // [hidden, heads * head_dim]
  TensorView gate;            // [n, hidden]
  TensorView gate2;           // [m, hidden]; data is null when m = 0
  struct Expert {
    TensorView w1;  // [intermediate, hidden]
    TensorView w2;  // [hidden, intermediate]
    TensorView w3;  // [intermediate, hidden]
  };
  std::vector<Expert> experts;  // [n]
};

struct MixtralWeights {
  ModelConfig config;       // with m, and k as overridden
  TensorView embed_tokens;  // [vocab, hidden]
  TensorView norm;          // [hidden]
  TensorView lm_head;       // [vocab, hidden]; embed_tokens when tied
  std::vector<MixtralLayerWeights> layers;
  std::shared_ptr<const void> owner;  // keeps the memory behind the views alive
};

struct LoadOptions {
  std::string model_dir;
  std::string adapter_dir = "";   // empty: none
  int32_t experts_per_token = 0;  // k; 0: as config.json says
};

// Loads a folder. Any error names the file, the tensor or key, and what was expected. Tensors the
// model does not know are listed in one logged warning.
absl::StatusOr<MixtralWeights> LoadMixtral(const LoadOptions& options);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_MIXTRAL_WEIGHTS_H_
