#include "train/model_scorer.h"

#include <c10/core/GradMode.h>

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

class ModelScorer final : public Scorer {
 public:
  ModelScorer(ScoredModel model, int num_threads)
      : model_(std::move(model)), num_threads_(num_threads) {}

  absl::StatusOr<TokenScores> Score(absl::Span<const int32_t> tokens) const override {
    const c10::NoGradGuard no_gradients;
    const std::vector<int64_t> ids(tokens.begin(), tokens.end());
    const at::Tensor row = at::tensor(ids, at::kLong).unsqueeze(0);
    const int64_t length = row.size(1) - 1;
    const ReferenceOutput output = model_.forward(row.narrow(1, 0, length));
    TokenScores scores;
    scores.num_positions = length;
    if (absl::Status status = CountExperts(output, &scores); !status.ok()) return status;
    const at::Tensor targets =
        row.narrow(1, 1, length).squeeze(0).unsqueeze(1).to(output.logits.device());
    const at::Tensor logprobs =
        at::log_softmax(output.logits.squeeze(0), 1).gather(1, targets).to(at::kDouble).squeeze(1);
    const at::Tensor packed = logprobs.to(at::kCPU).contiguous();
    const double* const first = packed.const_data_ptr<double>();
    scores.logprobs.assign(first, first + length);
    return scores;
  }

  int64_t max_context() const override { return model_.max_context; }
  int num_threads() const override { return num_threads_; }
  const ModelCost& cost() const override { return model_.cost; }

 private:
  absl::Status CountExperts(const ReferenceOutput& output, TokenScores* scores) const {
    if (output.routing.size() != model_.cost.expert_products.size()) {
      return absl::InternalError(absl::StrCat("the model has ", output.routing.size(),
                                              " routers, its cost is given for ",
                                              model_.cost.expert_products.size()));
    }
    for (size_t i = 0; i < output.routing.size(); ++i) {
      const double num_true = (output.routing[i].picks < model_.num_experts).sum().item<double>();
      scores->true_experts += num_true;
      scores->expert_products += num_true * model_.cost.expert_products[i];
    }
    return absl::OkStatus();
  }

  const ScoredModel model_;
  const int num_threads_;
};

}  // namespace

std::unique_ptr<Scorer> MakeModelScorer(ScoredModel model, int num_threads) {
  return std::make_unique<ModelScorer>(std::move(model), num_threads);
}

ScoredModel ScoredModelOf(const ReferenceModel& model) {
  ScoredModel scored;
  scored.forward = [&model](const at::Tensor& tokens) {
    return ReferenceForward(model.config, model.parameters, tokens);
  };
  scored.num_experts = model.config.num_experts;
  scored.max_context = model.config.max_position_embeddings;
  scored.cost = MixtralCost(model.config);
  return scored;
}

}  // namespace adamoe
