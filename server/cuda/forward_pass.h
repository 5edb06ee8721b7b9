// The kernels of one step, enqueued in order: embedding, decoder layers, norm and head of the
// asked-for rows. Everything it reads and writes is device memory at fixed addresses, so a step of
// one shape may be recorded once and replayed. Thread-compatible.
#ifndef ADAMOE_SERVER_CUDA_FORWARD_PASS_H_
#define ADAMOE_SERVER_CUDA_FORWARD_PASS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/cuda/step_buffers.h"
#include "server/cuda/step_layout.h"
#include "server/cuda/weight_layout.h"
#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/dense_linear.h"
#include "server/kernels/cuda/elementwise.h"
#include "server/kernels/cuda/router.h"
#include "server/weights/model_config.h"

namespace adamoe::cuda {

class ForwardPass {
 public:
  struct Memory {
    const std::byte* weights = nullptr;        // as LayOutWeights says
    const float* inverse_frequency = nullptr;  // [head_dim / 2]
    std::byte* kv_cache = nullptr;  // [num_layers, 2, num_blocks, block_size, kv_heads, head_dim]
    int32_t num_kv_blocks = 0;
    int32_t block_size = 0;
  };

  // A step's shape, and what else its kernels are chosen by.
  struct Step {
    StepShape shape;
    int32_t max_context = 0;  // no token of the step sees more positions
  };

  // `linear` must outlive this, as must the memory.
  ForwardPass(const ModelConfig& config, const Memory& memory, const StepBuffers& buffers,
              int32_t num_multiprocessors, DenseLinear* linear);

  // Reads buffers.inputs, and leaves in buffers.residual what the layers make of it. Adds to
  // buffers.counts, which are zeros. INTERNAL naming the kernel that could not be launched.
  absl::Status EnqueueLayers(const Step& step, cudaStream_t stream) const;

  // buffers.logits = the logits of the inputs' logit rows [begin, begin + count). REQUIRES: count
  // is within the limits of the buffers.
  absl::Status EnqueueLogits(const StepShape& shape, int32_t begin, int32_t count,
                             cudaStream_t stream) const;

 private:
  struct Layer {
    const float* input_norm;
    const Bf16* qkv_proj;
    const Bf16* o_proj;
    const float* post_attn_norm;
    const float* router;
    const Bf16* w1;
    const Bf16* w3;
    const Bf16* w2;
    KvCache cache;
  };

  absl::Status EnqueueAttention(const Layer& layer, const Step& step, cudaStream_t stream) const;
  absl::Status EnqueueExperts(int32_t layer, const Step& step, const DeviceRouting& routing,
                              cudaStream_t stream) const;
  const std::byte* Input(int64_t offset) const { return buffers_.inputs + offset; }

  const ModelConfig config_;
  const StepBuffers buffers_;
  const int32_t num_multiprocessors_;
  DenseLinear* const linear_;
  std::vector<Layer> layers_;
  const Bf16* embed_tokens_;
  const float* norm_;
  const Bf16* lm_head_;
  const float* inverse_frequency_;
};

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_FORWARD_PASS_H_
