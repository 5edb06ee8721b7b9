#include "train/adamw.h"

#include <cmath>
#include <utility>

namespace adamoe {

AdamW::AdamW(std::vector<at::Tensor> parameters, const Options& options)
    : options_(options), parameters_(std::move(parameters)) {
  for (const at::Tensor& parameter : parameters_) {
    first_moments_.push_back(at::zeros_like(parameter));
    second_moments_.push_back(at::zeros_like(parameter));
  }
}

void AdamW::Update(size_t i, const at::Tensor& gradient, double learning_rate) const {
  if (parameters_[i].numel() == 0) return;
  const double decay = parameters_[i].dim() >= 2 ? options_.weight_decay : 0.0;
  const at::Tensor step =
      at::scalar_tensor(static_cast<double>(num_steps_), parameters_[i].options());
  at::_fused_adamw_({parameters_[i]}, {gradient}, {first_moments_[i]}, {second_moments_[i]},
                    /*max_exp_avg_sqs=*/{}, {step}, learning_rate, options_.beta1, options_.beta2,
                    decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
}

double ClipGradients(const std::vector<at::Tensor>& gradients, double max_norm) {
  double sum_of_squares = 0;
  for (const at::Tensor& gradient : gradients) {
    const double norm = gradient.norm().item<double>();
    sum_of_squares += norm * norm;
  }
  const double norm = std::sqrt(sum_of_squares);
  if (norm > max_norm) {
    for (const at::Tensor& gradient : gradients) gradient.mul_(max_norm / norm);
  }
  return norm;
}

}  // namespace adamoe
