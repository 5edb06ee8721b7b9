#include "server/kernels/cpu/rope.h"

#include <algorithm>
#include <cmath>

namespace adamoe {

void RopeAngles::Set(const int32_t* positions, int32_t num_tokens, float theta, int32_t head_dim) {
  const bool same_frequencies = theta == theta_ && head_dim == head_dim_;
  if (same_frequencies &&
      std::equal(positions_.begin(), positions_.end(), positions, positions + num_tokens)) {
    return;
  }
  const int32_t half = head_dim / 2;
  if (!same_frequencies) {
    theta_ = theta;
    head_dim_ = head_dim;
    frequencies_.resize(half);
    for (int32_t i = 0; i < half; ++i) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
      frequencies_[i] = 1.0f / std::pow(theta, exponent);
    }
  }
  positions_.assign(positions, positions + num_tokens);
  cos_.resize(static_cast<size_t>(num_tokens) * half);
  sin_.resize(cos_.size());
  for (size_t i = 0; i < cos_.size(); ++i) {
    const float angle = static_cast<float>(positions_[i / half]) * frequencies_[i % half];
    cos_[i] = std::cos(angle);
    sin_[i] = std::sin(angle);
  }
}

void RopeAngles::Rotate(int32_t t, int32_t num_heads, float* heads) const {
  const int32_t half = head_dim_ / 2;
  const float* cos = cos_.data() + static_cast<int64_t>(t) * half;
  const float* sin = sin_.data() + static_cast<int64_t>(t) * half;
  for (int32_t h = 0; h < num_heads; ++h) {
    float* low = heads + static_cast<int64_t>(h) * head_dim_;
    float* high = low + half;
    for (int32_t i = 0; i < half; ++i) {
      const float a = low[i];
      const float b = high[i];
      low[i] = a * cos[i] - b * sin[i];
      high[i] = b * cos[i] + a * sin[i];
    }
  }
}

}  // namespace adamoe
