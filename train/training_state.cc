#include "train/training_state.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/weights/safetensors.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

void RemoveOtherStates(const std::string& dir, const std::string& kept) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, "training-") && name != kept) {
      std::filesystem::remove(entry.path(), error);
    }
  }
}

absl::Status Restore(const SafetensorsFile& file, const std::string& name,
                     const at::Tensor& tensor) {
  const auto found = file.entries().find(name);
  if (found == file.entries().end()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": ", name, " is missing"));
  }
  const SafetensorsEntry& entry = found->second;
  if (entry.dtype != DType::kFloat32 || entry.shape != tensor.sizes().vec()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": ", name, " does not have the model's type and shape"));
  }
  const at::Tensor saved = at::from_blob(const_cast<void*>(static_cast<const void*>(entry.data)),
                                         entry.shape, at::kFloat);
  tensor.copy_(saved);
  return absl::OkStatus();
}

// Names the tensor file in *tensors.
absl::StatusOr<TrainingProgress> ReadProgress(const std::string& path, std::string* tensors) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    *tensors = json.at("tensors");
    return TrainingProgress{json.at("steps"), json.at("rows"), json.at("tokens"),
                            json.at("seconds")};
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
}

}  // namespace

absl::Status SaveTrainingState(const std::string& dir, const TrainingProgress& progress,
                               const NamedTensors& parameters, const AdamW& optimizer) {
  NamedTensors named;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor] = parameters[i];
    named.emplace_back(absl::StrCat("parameter.", name), tensor);
    named.emplace_back(absl::StrCat("first_moment.", name), optimizer.first_moments()[i]);
    named.emplace_back(absl::StrCat("second_moment.", name), optimizer.second_moments()[i]);
  }
  const std::string file = absl::StrCat("training-", progress.num_steps, ".safetensors");
  RETURN_IF_ERROR(WriteSafetensors(absl::StrCat(dir, "/", file), named));
  const nlohmann::ordered_json json = {{"tensors", file},
                                       {"steps", progress.num_steps},
                                       {"rows", progress.num_rows},
                                       {"tokens", progress.num_tokens},
                                       {"seconds", progress.seconds}};
  RETURN_IF_ERROR(WriteFileAtomically(dir + "/training.json", json.dump(2) + "\n"));
  RemoveOtherStates(dir, file);
  return absl::OkStatus();
}

absl::StatusOr<TrainingProgress> LoadTrainingState(const std::string& dir,
                                                   const NamedTensors& parameters,
                                                   AdamW* optimizer) {
  std::string tensor_file;
  ASSIGN_OR_RETURN(const TrainingProgress progress,
                   ReadProgress(dir + "/training.json", &tensor_file));
  ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(absl::StrCat(dir, "/", tensor_file)));
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor] = parameters[i];
    RETURN_IF_ERROR(Restore(*file, absl::StrCat("parameter.", name), tensor));
    RETURN_IF_ERROR(
        Restore(*file, absl::StrCat("first_moment.", name), optimizer->first_moments()[i]));
    RETURN_IF_ERROR(
        Restore(*file, absl::StrCat("second_moment.", name), optimizer->second_moments()[i]));
  }
  optimizer->set_num_steps(progress.num_steps);
  return progress;
}

}  // namespace adamoe
