// The reference model from and to a Hugging Face Mixtral folder with AdaMoE's gate2 tensors.
// Thread-safe.
#ifndef ADAMOE_TRAIN_MODEL_FOLDER_H_
#define ADAMOE_TRAIN_MODEL_FOLDER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/model_config.h"
#include "train/mixtral_parameters.h"
#include "train/safetensors_writer.h"

namespace adamoe {

// Every tensor under its name in Hugging Face's Mixtral, in `dtype`.
NamedTensors HuggingFaceTensors(const MixtralParameters& parameters, at::ScalarType dtype);

// What config.json calls a type of weights: "bfloat16", "float16" or "float32".
const char* DTypeName(at::ScalarType dtype);

// The text of config.json. No key carries m: readers infer it from gate2.
std::string ConfigJson(const ModelConfig& config, at::ScalarType dtype);

// Writes config.json, generation_config.json and model.safetensors to `dir`, which exists; each
// file is replaced in one step. INTERNAL when a file cannot be written.
absl::Status WriteModelFolder(const std::string& dir, const ModelConfig& config,
                              const MixtralParameters& parameters, at::ScalarType dtype);

// Writes a model that was made of the folder `model_dir` to `dir`, which exists, as that folder has
// it: each tensor in the type it has there, float32 when it is not there; config.json with all its
// keys but num_experts_per_tok, which becomes `experts_per_token`; generation_config.json.
absl::Status WriteModelFolderLike(const std::string& model_dir, const std::string& dir,
                                  const MixtralParameters& parameters, int32_t experts_per_token);

// INVALID_ARGUMENT when both paths lead to one folder.
absl::Status CheckOtherFolder(const std::string& model_dir, const std::string& out_dir);

// Copies the tokenizer's files from one model folder to another, which is made when missing.
absl::Status CopyTokenizer(const std::string& from_dir, const std::string& to_dir);

struct ReferenceModel {
  ModelConfig config;
  MixtralParameters parameters;  // float32
};

// Copies weights of any type into float32 parameters, fused as the reference wants them.
ReferenceModel ReferenceFrom(const MixtralWeights& weights);

// LoadMixtral, then ReferenceFrom; errors as LoadMixtral.
absl::StatusOr<ReferenceModel> LoadModelFolder(const std::string& dir);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MODEL_FOLDER_H_
