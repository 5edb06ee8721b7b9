// Mixtral (arXiv 2401.04088) and AdaMoE (arXiv 2406.13233) as a Model: embedding, decoder layers,
// norm, head.
//
// Knows no device: every product and every kernel is an operation of Ops. Thread-compatible. Owns
// the weights, the operations and the KV cache.
//
//   ASSIGN_OR_RETURN(MixtralWeights weights, LoadMixtral(options));
//   ASSIGN_OR_RETURN(auto model, MixtralModel::Create(std::move(weights), std::move(ops),
//                                                     {.kv_cache_tokens = 4096}));
#ifndef ADAMOE_SERVER_MODEL_MIXTRAL_MODEL_H_
#define ADAMOE_SERVER_MODEL_MIXTRAL_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/kernels/ops.h"
#include "server/kv_cache/kv_store.h"
#include "server/model/activations.h"
#include "server/model/adamoe_block.h"
#include "server/model/attention_block.h"
#include "server/model/model.h"
#include "server/model/step_input.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {

class MixtralModel : public Model {
 public:
  struct Options {
    int64_t kv_cache_tokens = 0;  // rounded up to whole blocks
    int32_t block_size = 16;      // positions per KV block
  };

  // Keys and values are cached in float32 with Precision::kFloat32, else in bfloat16.
  // INVALID_ARGUMENT when an option is out of range; RESOURCE_EXHAUSTED when the cache cannot be
  // had. REQUIRES: weights as LoadMixtral returns them.
  static absl::StatusOr<std::unique_ptr<MixtralModel>> Create(MixtralWeights weights,
                                                              std::unique_ptr<Ops> ops,
                                                              const Options& options);

  const ModelDimensions& dimensions() const override { return dimensions_; }

  // As in model.h; also INTERNAL, before anything is run, when the batch breaks its contract.
  absl::Status Forward(const ForwardBatch& batch, ForwardResult* result) override;

 private:
  struct DecoderLayer {
    std::vector<float> attention_norm;  // [hidden]
    AttentionBlock attention;
    std::vector<float> moe_norm;  // [hidden]
    AdamoeBlock moe;
  };

  MixtralModel(MixtralWeights weights, std::unique_ptr<Ops> ops, std::unique_ptr<KvStore> kv_store);

  KvLayer CacheOf(int32_t layer) const;
  void ResizeCounts(int32_t num_tokens, ForwardResult* result) const;
  // Copies the counts the layer just run has left in activations_.
  void RecordSlots(int32_t layer, ForwardResult* result) const;
  // Final norm and head of the rows asked for.
  void ProjectLogits(const float* residual, ForwardResult* result);

  const MixtralWeights weights_;
  const std::unique_ptr<Ops> ops_;
  const std::unique_ptr<KvStore> kv_store_;
  ModelDimensions dimensions_;
  std::vector<DecoderLayer> layers_;
  std::vector<float> final_norm_;  // [hidden]

  // The step in progress.
  StepInput step_;
  Activations activations_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_MIXTRAL_MODEL_H_
