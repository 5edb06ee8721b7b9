#include "train/training_state.h"

#include <cstring>
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
  std::memcpy(tensor.mutable_data_ptr<float>(), entry.data, entry.num_bytes);
  return absl::OkStatus();
}

// Names the tensor file in *tensors.
absl::StatusOr<TrainingProgress> ReadProgress(const std::string& path, std::string* tensors) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    *tensors = json.at("tensors");
    return TrainingProgress{json.at("steps"), json.at("windows"), json.at("tokens"),
                            json.at("seconds")};
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
}

}  // namespace

absl::Status SaveTrainingState(const std::string& dir, const TrainingProgress& progress,
                               const MixtralParameters& parameters, const AdamW& optimizer) {
  MixtralParameters handles = parameters;
  const std::vector<at::Tensor*> tensors = AllTensors(&handles);
  NamedTensors named;
  for (size_t i = 0; i < tensors.size(); ++i) {
    named.emplace_back(absl::StrCat("parameter.", i), *tensors[i]);
    named.emplace_back(absl::StrCat("first_moment.", i), optimizer.first_moments()[i]);
    named.emplace_back(absl::StrCat("second_moment.", i), optimizer.second_moments()[i]);
  }
  const std::string file = absl::StrCat("training-", progress.num_steps, ".safetensors");
  RETURN_IF_ERROR(WriteSafetensors(absl::StrCat(dir, "/", file), named));
  const nlohmann::ordered_json json = {{"tensors", file},
                                       {"steps", progress.num_steps},
                                       {"windows", progress.num_windows},
                                       {"tokens", progress.num_tokens},
                                       {"seconds", progress.seconds}};
  RETURN_IF_ERROR(WriteFileAtomically(dir + "/training.json", json.dump(2) + "\n"));
  RemoveOtherStates(dir, file);
  return absl::OkStatus();
}

absl::StatusOr<TrainingProgress> LoadTrainingState(const std::string& dir,
                                                   MixtralParameters* parameters,
                                                   AdamW* optimizer) {
  std::string tensor_file;
  ASSIGN_OR_RETURN(const TrainingProgress progress,
                   ReadProgress(dir + "/training.json", &tensor_file));
  ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(absl::StrCat(dir, "/", tensor_file)));
  const std::vector<at::Tensor*> tensors = AllTensors(parameters);
  for (size_t i = 0; i < tensors.size(); ++i) {
    RETURN_IF_ERROR(Restore(*file, absl::StrCat("parameter.", i), *tensors[i]));
    RETURN_IF_ERROR(
        Restore(*file, absl::StrCat("first_moment.", i), optimizer->first_moments()[i]));
    RETURN_IF_ERROR(
        Restore(*file, absl::StrCat("second_moment.", i), optimizer->second_moments()[i]));
  }
  optimizer->set_num_steps(progress.num_steps);
  return progress;
}

}  // namespace adamoe
