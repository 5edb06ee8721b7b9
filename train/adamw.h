// AdamW (Loshchilov and Hutter, arXiv 1711.05101) over float32 tensors. Thread-compatible.
#ifndef ADAMOE_TRAIN_ADAMW_H_
#define ADAMOE_TRAIN_ADAMW_H_

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace adamoe {

class AdamW {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;  // of tensors with two or more dimensions
  };

  // Keeps handles to `parameters` and updates them in place. Moments start at 0.
  AdamW(std::vector<at::Tensor> parameters, const Options& options);

  // One step is Begin, then Update once for each parameter i, in any order and from any threads.
  // `gradient`: f32, of the parameter's shape.
  void Begin() { ++num_steps_; }
  void Update(size_t i, const at::Tensor& gradient, double learning_rate) const;

  int64_t num_steps() const { return num_steps_; }
  // One per parameter; written by Update, and by whoever restores a saved run.
  const std::vector<at::Tensor>& first_moments() const { return first_moments_; }
  const std::vector<at::Tensor>& second_moments() const { return second_moments_; }
  void set_num_steps(int64_t num_steps) { num_steps_ = num_steps; }

 private:
  const Options options_;
  const std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> first_moments_;
  std::vector<at::Tensor> second_moments_;
  int64_t num_steps_ = 0;
};

// Scales `gradients` in place so that their joint Euclidean norm is at most `max_norm`. Returns the
// norm before.
double ClipGradients(const std::vector<at::Tensor>& gradients, double max_norm);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_ADAMW_H_
