// What flows between the operations of a step: buffers that grow to the largest step seen and are
// reused. Thread-compatible.
#ifndef ADAMOE_SERVER_MODEL_ACTIVATIONS_H_
#define ADAMOE_SERVER_MODEL_ACTIVATIONS_H_

#include <cstdint>
#include <vector>

#include "server/kernels/ops.h"

namespace adamoe {

// Memory for at least `size` elements; earlier contents are of no use.
template <typename T>
T* Grown(std::vector<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) {
    buffer.clear();
    buffer.resize(size);
  }
  return buffer.data();
}

struct Activations {
  std::vector<float> residual;  // [num_tokens, hidden]
  std::vector<float> normed;    // [num_tokens, hidden]
  std::vector<float> delta;     // [num_tokens, hidden], what a block adds to the residual stream

  std::vector<float> queries;   // [num_tokens, num_heads, head_dim]
  std::vector<float> keys;      // [num_tokens, num_kv_heads, head_dim]
  std::vector<float> values;    // [num_tokens, num_kv_heads, head_dim]
  std::vector<float> attended;  // [num_tokens, num_heads, head_dim]

  std::vector<float> router_logits;  // [num_tokens, n + m]
  std::vector<uint8_t> executed;  // [num_tokens], rows the expert kernel ran in the layer at hand
  Routing routing;                // of the layer at hand
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_ACTIVATIONS_H_
