// All parameters of a Mixtral or AdaMoE model, as something a Trainer trains.
#ifndef ADAMOE_TRAIN_MIXTRAL_TRAINING_H_
#define ADAMOE_TRAIN_MIXTRAL_TRAINING_H_

#include <string>

#include "train/mixtral_parameters.h"
#include "train/model_folder.h"
#include "train/trainer.h"

namespace adamoe {

class MixtralTraining final : public Trainable {
 public:
  // `model`: float32, changed in place by training. Matrices are multiplied in `matrix_type`.
  MixtralTraining(ReferenceModel model, at::ScalarType matrix_type);

  NamedTensors Parameters() const override;
  int64_t num_experts() const override { return model_.config.num_experts; }
  TrainingPass BeginPass() const override;
  // A model folder without a tokenizer, in bfloat16.
  absl::Status Save(const std::string& dir) const override;

 private:
  const ReferenceModel model_;
  const at::ScalarType matrix_type_;
};

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MIXTRAL_TRAINING_H_
