// A PEFT LoRA adapter folder as AdaMoE's official training saves it: adapter_config.json and
// adapter_model.safetensors with `base_model.model.` + the layer's name + `.lora_A.weight` [r, in]
// and `.lora_B.weight` [out, r]. LoRA: arXiv 2106.09685. Internal to weights/. Immutable after
// opening; thread-safe.
#ifndef ADAMOE_SERVER_WEIGHTS_ADAPTER_H_
#define ADAMOE_SERVER_WEIGHTS_ADAPTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/weights/checkpoint_files.h"
#include "server/weights/model_config.h"
#include "server/weights/tensor_table.h"

namespace adamoe {

class Adapter {
 public:
  // Opens a folder. INVALID_ARGUMENT names the file and the key for every kind of adapter that is
  // not plain LoRA.
  static absl::StatusOr<std::unique_ptr<Adapter>> Open(const std::string& dir);

  // Whether it changes the tensor.
  bool Changes(const TensorSpec& spec) const;

  // The rows of a layer's gate2, m, as the adapter has it; 0 when it has none.
  absl::StatusOr<int32_t> NumNullExperts(const ModelConfig& config, int32_t layer) const;

  // INVALID_ARGUMENT naming the first tensor that is not a LoRA factor of one of `specs`.
  absl::Status CheckTargets(const std::vector<TensorSpec>& specs) const;

  // Adds (lora_alpha / r) B A to `weights`, [out, in] as spec.shape says. REQUIRES: Changes(spec).
  absl::Status AddTo(const TensorSpec& spec, float* weights) const;

 private:
  Adapter() = default;

  std::string dir_;
  int64_t rank_ = 0;
  double scale_ = 0.0;  // lora_alpha / r
  std::unique_ptr<CheckpointFiles> files_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_ADAPTER_H_
