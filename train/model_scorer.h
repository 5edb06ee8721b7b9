// A Scorer of a model in this process.
#ifndef ADAMOE_TRAIN_MODEL_SCORER_H_
#define ADAMOE_TRAIN_MODEL_SCORER_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "train/mixtral_reference.h"
#include "train/model_folder.h"
#include "train/scorer.h"

namespace adamoe {

// Any model that says where its tokens went.
struct ScoredModel {
  // tokens: [1, length], i64. Called from several threads at once, without gradients.
  std::function<ReferenceOutput(const at::Tensor& tokens)> forward;
  int64_t num_experts = 0;  // router picks from this one on are null
  int64_t max_context = 0;  // positions the model was made for
  ModelCost cost;           // one entry of expert_products per entry of ReferenceOutput::routing
};

// Runs `num_threads` sequences side by side, each alone: nothing is padded.
std::unique_ptr<Scorer> MakeModelScorer(ScoredModel model, int num_threads);

// The reference model. `model` must outlive what is returned.
ScoredModel ScoredModelOf(const ReferenceModel& model);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_MODEL_SCORER_H_
