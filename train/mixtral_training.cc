#include "train/mixtral_training.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "train/mixtral_reference.h"

namespace adamoe {

MixtralTraining::MixtralTraining(ReferenceModel model, at::ScalarType matrix_type)
    : model_(std::move(model)), matrix_type_(matrix_type) {}

NamedTensors MixtralTraining::Parameters() const {
  MixtralParameters handles = model_.parameters;
  NamedTensors named;
  for (const at::Tensor* tensor : AllTensors(&handles)) {
    named.emplace_back(absl::StrCat(named.size()), *tensor);
  }
  return named;
}

TrainingPass MixtralTraining::BeginPass() const {
  const auto copy =
      std::make_shared<MixtralParameters>(ComputeCopy(model_.parameters, matrix_type_));
  TrainingPass pass;
  for (const at::Tensor* tensor : AllTensors(copy.get())) pass.leaves.push_back(*tensor);
  pass.forward = [this, copy](const at::Tensor& tokens) {
    return ReferenceForward(model_.config, *copy, tokens);
  };
  return pass;
}

absl::Status MixtralTraining::Save(const std::string& dir) const {
  return WriteModelFolder(dir, model_.config, model_.parameters, at::kBFloat16);
}

}  // namespace adamoe
