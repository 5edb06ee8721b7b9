// A Mo-LoRA model as something that evaluation scores with (model_scorer.h). Thread-safe.
#ifndef ADAMOE_TRAIN_MOLORA_SCORER_H_
#define ADAMOE_TRAIN_MOLORA_SCORER_H_

#include "train/model_scorer.h"
#include "train/molora_folder.h"
#include "train/molora_model.h"
#include "train/scorer.h"

namespace adamoe {

// One router per linear layer, an expert of which takes r * (in + out) multiplications. Every
// linear layer of the base, and the head, are fixed.
ModelCost MoLoraCost(const ModelConfig& base, const MoLoraConfig& config);

// `model` must outlive what is returned.
ScoredModel ScoredModelOf(const MoLoraModel& model);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MOLORA_SCORER_H_
