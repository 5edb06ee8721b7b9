// Mixtral and AdaMoE as a Model on one GPU: bfloat16 weights, matrix products and KV cache, float32
// between operations, as the CPU runs with Precision::kBFloat16.
//
// All device memory is taken at the start, in one piece: weights, KV cache and buffers for the
// largest step. A step is one copy in, the kernels, one copy of counts and one of logits out, and
// one wait. Steps that only decode are recorded as graphs, one per padded size
// (decode_graph_key.h): the first of a size runs kernel by kernel, which also finds the matrix
// products' algorithms; later ones replay. Thread-compatible; any thread.
#ifndef ADAMOE_SERVER_CUDA_CUDA_MODEL_H_
#define ADAMOE_SERVER_CUDA_CUDA_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/cuda/decode_graph_key.h"
#include "server/cuda/forward_pass.h"
#include "server/cuda/gpu.h"
#include "server/cuda/step_buffers.h"
#include "server/cuda/step_layout.h"
#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/dense_linear.h"
#include "server/model/model.h"
#include "server/model/step_input.h"
#include "server/weights/mixtral_weights.h"
#include "server/weights/model_config.h"

namespace adamoe::cuda {

class CudaModel : public Model {
 public:
  struct Options {
    int64_t kv_cache_tokens =
        0;  // rounded up to whole blocks; 0: what memory leaves (memory_plan.h)
    int32_t block_size = 16;
    int32_t max_batch_tokens = 512;
    int32_t max_sequences = 64;
    bool use_graphs = true;
  };

  // Brings the weights to `memory` on the device, laid out as LayOutWeights says.
  using FillWeights = absl::FunctionRef<absl::Status(Gpu& gpu, std::byte* memory)>;

  // INVALID_ARGUMENT for a shape that the kernels do not take; else as DevicePlugin::create says.
  static absl::StatusOr<std::unique_ptr<CudaModel>> Create(std::unique_ptr<Gpu> gpu,
                                                           const ModelConfig& config,
                                                           FillWeights fill,
                                                           const Options& options);
  ~CudaModel() override;

  const ModelDimensions& dimensions() const override { return dimensions_; }

  // As in model.h; INTERNAL, before anything is run, when the batch breaks its contract or is
  // larger than the options allow.
  absl::Status Forward(const ForwardBatch& batch, ForwardResult* result) override;

  bool lost() const override { return lost_; }

  // Recorded graphs, for tests.
  int num_graphs() const;

 private:
  // All that Create works out before the model is there.
  struct Parts {
    std::unique_ptr<Gpu> gpu;
    std::unique_ptr<DenseLinear> linear;
    ModelDimensions dimensions;
    StepLimits limits;
    StepBuffers buffers;
    ForwardPass::Memory memory;
    std::byte* pinned_inputs;
    std::byte* pinned_counts;
    float* pinned_logits;  // [limits.num_logit_rows, vocab]
  };
  // A size that was run before, recorded from its second step on.
  struct DecodeGraph {
    std::unique_ptr<Graph> graph;
    bool failed = false;  // to be recorded: steps of this size go on kernel by kernel
  };

  CudaModel(Parts parts, const ModelConfig& config, const Options& options);

  absl::Status TryForward(const ForwardBatch& batch, ForwardResult* result);
  absl::Status CheckLimits(const ForwardBatch& batch) const;
  // Shape and attention work of the batch, padded for `key` if there is one.
  ForwardPass::Step PrepareStep(const ForwardBatch& batch,
                                const std::optional<DecodeGraphKey>& key);
  // Copies, kernels, copies. Refers to nothing that changes between steps of one shape.
  absl::Status EnqueueStep(const ForwardPass::Step& step);
  // Logits from row `begin` on, as many as are made at a time, to pinned_logits_.
  absl::Status EnqueueLogits(const StepShape& shape, int32_t begin);
  absl::Status RunGraph(const DecodeGraphKey& key, const ForwardPass::Step& step);
  absl::Status Record(const ForwardPass::Step& step, DecodeGraph& graph);
  // Waits for the step and takes its results, making what logits are still to make.
  absl::Status ReadResult(const ForwardBatch& batch, const ForwardPass::Step& step,
                          ForwardResult* result);

  const ModelConfig config_;
  const bool use_graphs_;
  // In this order: graphs go before the device.
  const std::unique_ptr<Gpu> gpu_;
  const std::unique_ptr<DenseLinear> linear_;
  const ModelDimensions dimensions_;
  const StepLimits limits_;
  const StepBuffers buffers_;
  const ForwardPass pass_;
  std::byte* const pinned_inputs_;
  std::byte* const pinned_counts_;
  float* const pinned_logits_;
  std::map<DecodeGraphKey, DecodeGraph> graphs_;

  // The step in progress.
  StepInput checked_;
  AttentionPlan attention_;

  bool lost_ = false;
  std::string lost_because_;
};

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_CUDA_CUDA_MODEL_H_
