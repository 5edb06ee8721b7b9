// Turns a trained Mixtral into an AdaMoE that a fine-tuning starts from (arXiv 2406.13233): null
// experts beside the true ones, and more picks per token. Thread-safe for different folders.
#ifndef ADAMOE_TRAIN_CONVERT_H_
#define ADAMOE_TRAIN_CONVERT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "train/model_folder.h"

namespace adamoe {

struct NullExpertOptions {
  int32_t num_null_experts = 0;   // m; 0 changes k alone
  int32_t experts_per_token = 0;  // k
  // Deviation of the noise on a null's router row, as a share of the row's root mean square. A row
  // without noise ties with the one it was copied from, and ties always go to the true expert,
  // which makes the load a third larger than a balanced router's.
  double router_noise = 1e-3;
  uint64_t seed = 1;  // of the noise
};

// Null i's router row is a copy of true expert (i mod n)'s with noise, so every expert keeps its
// share of the picks. Other tensors are shared with `model`. INVALID_ARGUMENT when the model has
// null experts already, or names the option that is out of range.
absl::StatusOr<ReferenceModel> AddNullExperts(const ReferenceModel& model,
                                              const NullExpertOptions& options);

// AddNullExperts from one Hugging Face folder to another, which is made when missing, tokenizer
// included. Every tensor keeps its type and value. gate2 is float32 whatever the others are:
// bfloat16, with steps of 1/256 to 1/128, would round most of the noise away. config.json keeps
// all keys; num_experts_per_tok becomes k. Errors also as LoadMixtral; INVALID_ARGUMENT when both
// folders are one.
absl::Status ConvertFolder(const std::string& model_dir, const std::string& out_dir,
                           const NullExpertOptions& options);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_CONVERT_H_
