// LoRA (arXiv 2106.09685) of a Mixtral or AdaMoE model, as something a Trainer trains: the model
// stays as it is, and each targeted linear layer W computes with W + (alpha / r) B A.
#ifndef ADAMOE_TRAIN_LORA_TRAINING_H_
#define ADAMOE_TRAIN_LORA_TRAINING_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/weights/tensor_table.h"
#include "train/model_folder.h"
#include "train/trainer.h"

namespace adamoe {

struct LoraOptions {
  std::string model_dir = "";  // where the model came from
  int64_t rank = 8;
  double alpha = 16;
  // Of gate, gate2, w1, w2, w3 (of every expert), q_proj, k_proj, v_proj, o_proj. gate2 stands for
  // nothing in a model without null experts. The default is what AdaMoE's paper trains.
  std::vector<std::string> targets = {"gate", "gate2", "w1", "w2", "w3"};
  bool merge = false;  // Save writes the merged model in place of the adapter
  uint64_t seed = 1;   // of A
};

// INVALID_ARGUMENT names the option that is out of range, or the target.
absl::Status CheckLoraOptions(const LoraOptions& options);

class LoraTraining final : public Trainable {
 public:
  // B starts as 0, so that training starts from the model as it is. Matrices without LoRA are
  // multiplied in `matrix_type`; those with LoRA in float32: what they learn is far smaller than
  // they are, and a bfloat16 sum would round it away. REQUIRES: CheckLoraOptions(options) is OK.
  LoraTraining(ReferenceModel model, const LoraOptions& options, at::ScalarType matrix_type);

  // "layers.{i}.{target}.lora_A" and ".lora_B": [r, in] and [out, r]; of w1, w2 and w3 [n, r, in]
  // and [n, out, r].
  NamedTensors Parameters() const override;
  int64_t num_experts() const override { return model_.config.num_experts; }
  TrainingPass BeginPass() const override;

  // The float32 parameters of the model with what was learned added.
  MixtralParameters Merged() const;

  // A PEFT adapter folder, in float32, as server/weights reads it: adapter_config.json and
  // adapter_model.safetensors. k is not in it. With `merge` in its place a model folder as
  // WriteModelFolderLike: in the model's types, so small changes of a bfloat16 model are rounded.
  absl::Status Save(const std::string& dir) const override;
  // INVALID_ARGUMENT when `dir` holds an adapter with another rank, alpha or other targets.
  absl::Status CheckSaved(const std::string& dir) const;

 private:
  // A part of one layer's tensor that LoRA changes: `size` of its rows from `begin`.
  struct Target {
    std::string name;
    TensorRole role;
    at::Tensor MixtralLayerParameters::*tensor;
    int64_t begin;
    int64_t size;
  };
  // A and B of one target in one layer.
  struct Factors {
    at::Tensor a;
    at::Tensor b;
  };

  std::vector<Target> ParseTargets() const;
  // Whether a target lies in one of `tensors`.
  bool Changes(std::initializer_list<at::Tensor MixtralLayerParameters::*> tensors) const;
  // `base` with (alpha / r) B A added; factors: [layers * targets]. Differentiable in those.
  MixtralParameters Adapted(const MixtralParameters& base,
                            const std::vector<Factors>& factors) const;
  NamedTensors AdapterTensors() const;
  std::string AdapterConfigJson() const;

  const ReferenceModel model_;
  const LoraOptions options_;
  const std::vector<Target> targets_;
  MixtralParameters base_;        // what a pass computes with: the model in its matrix types
  std::vector<Factors> factors_;  // [layers * targets], a layer's side by side
};

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_LORA_TRAINING_H_
