// A dense Llama-style model: to the code here, a Mixtral model with one expert, whose router has
// nothing to choose. Thread-safe.
#ifndef ADAMOE_TRAIN_DENSE_MODEL_H_
#define ADAMOE_TRAIN_DENSE_MODEL_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/weights/model_config.h"
#include "train/model_folder.h"

namespace adamoe {

// config.json of Hugging Face's Llama as that of a Mixtral with one expert and one pick. `file`
// names it in errors: INVALID_ARGUMENT names the key, its value and what was expected. Refused:
// biases, other activations than silu, scaled rotary embedding, quantized weights.
absl::StatusOr<ModelConfig> ParseLlamaConfig(const std::string& text, const std::string& file);

// Reads a Llama folder (model_type llama, mlp.gate_proj, up_proj and down_proj) or a Mixtral folder
// with one expert and no null experts. The folder is outside input: NOT_FOUND and INVALID_ARGUMENT
// name the file, and the key or tensor with what was expected; a Llama tensor that is not of the
// model is an error.
absl::StatusOr<ReferenceModel> LoadDenseModel(const std::string& dir);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_DENSE_MODEL_H_
