// Rotary position embedding (arXiv 2104.09864) as Hugging Face's Mixtral computes it, in float32
// throughout.
#ifndef ADAMOE_SERVER_KERNELS_CPU_ROPE_H_
#define ADAMOE_SERVER_KERNELS_CPU_ROPE_H_

#include <cstdint>
#include <vector>

namespace adamoe {

// The angles of a batch of positions, kept from call to call: queries and keys of all layers ask
// for the same ones. Thread-compatible.
class RopeAngles {
 public:
  // Makes cosines and sines those of `positions`, [num_tokens].
  void Set(const int32_t* positions, int32_t num_tokens, float theta, int32_t head_dim);

  // Rotates pairs (i, i + head_dim / 2) of token t's heads, in place. heads: [num_heads, head_dim].
  void Rotate(int32_t t, int32_t num_heads, float* heads) const;

 private:
  int32_t head_dim_ = 0;
  float theta_ = 0.0f;
  std::vector<int32_t> positions_;
  std::vector<float> frequencies_;  // [head_dim / 2]
  std::vector<float> cos_;          // [num_tokens, head_dim / 2]
  std::vector<float> sin_;          // [num_tokens, head_dim / 2]
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_ROPE_H_
