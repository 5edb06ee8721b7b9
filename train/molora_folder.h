// An adapter folder of a Mo-LoRA model (molora_model.h), in the manner of PEFT but of a form of its
// own: it goes with a dense base folder.
//
// adapter_config.json:
//   peft_type "MOLORA", task_type "CAUSAL_LM", base_model_name_or_path, num_experts (n),
//   num_null_experts (m), experts_per_token (k), r, lora_alpha, target_modules (always all seven).
// adapter_model.safetensors, for every layer i and linear layer L of self_attn.{q,k,v,o}_proj and
// mlp.{gate,up,down}_proj, under base_model.model.model.layers.{i}.{L}:
//   .molora_router.weight [n + m, in], true experts first
//   .molora_A.weight      [n, r, in]
//   .molora_B.weight      [n, out, r]
//
// Functions are thread-safe.
#ifndef ADAMOE_TRAIN_MOLORA_FOLDER_H_
#define ADAMOE_TRAIN_MOLORA_FOLDER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/weights/model_config.h"
#include "train/model_folder.h"
#include "train/molora_model.h"

namespace adamoe {

// Writes both files to `dir`, which exists, in float32; each is replaced in one step. INTERNAL when
// a file cannot be written.
absl::Status WriteMoLora(const std::string& dir, const std::string& base_model,
                         const MoLora& molora);

// Whether `dir` holds an adapter of this kind: its adapter_config.json says so.
bool IsMoLora(const std::string& dir);

// The folder is outside input: NOT_FOUND and INVALID_ARGUMENT name the file, and the key or tensor
// with what was expected.
absl::StatusOr<MoLoraConfig> ReadMoLoraConfig(const std::string& dir);
// The same with the tensors, as float32: every one that a model of the shape of `base` has, and no
// other.
absl::StatusOr<MoLora> ReadMoLora(const std::string& dir, const ModelConfig& base);

struct MoLoraModel {
  ReferenceModel base;
  MoLora molora;

  // Thread-safe.
  ReferenceOutput Forward(const at::Tensor& token_ids) const {
    return MoLoraForward(base, molora, token_ids);
  }
};

// LoadDenseModel and ReadMoLora.
absl::StatusOr<MoLoraModel> LoadMoLora(const std::string& model_dir,
                                       const std::string& adapter_dir);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MOLORA_FOLDER_H_
