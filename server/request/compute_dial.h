// A request's own say in how many experts its tokens use.
#ifndef ADAMOE_SERVER_REQUEST_COMPUTE_DIAL_H_
#define ADAMOE_SERVER_REQUEST_COMPUTE_DIAL_H_

#include <cstdint>

namespace adamoe {

struct ComputeDial {
  // Added to the router logits of the null experts before the softmax. 0: the model as trained.
  float null_bias = 0.0f;
  // At most this many true experts per token and layer: the largest picks stay, the weights are
  // renormalised over them, the rest count as dropped. 0: no limit.
  uint32_t max_experts_per_token = 0;

  bool operator==(const ComputeDial&) const = default;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_COMPUTE_DIAL_H_
