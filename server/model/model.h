// The model as the executor sees it: one forward pass over a batch of positions of many sequences.
//
// Thread-compatible: one thread at a time (the executor's). The model owns the memory of the KV
// cache; callers name its blocks by id, in [0, num_kv_blocks).
#ifndef ADAMOE_SERVER_MODEL_MODEL_H_
#define ADAMOE_SERVER_MODEL_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace adamoe {

struct ModelDimensions {
  int32_t vocab_size = 0;
  int32_t num_layers = 0;
  int32_t num_experts = 0;        // n, true experts
  int32_t num_null_experts = 0;   // m
  int32_t experts_per_token = 0;  // k, router picks
  int32_t max_context_tokens = 0;
  int32_t num_kv_blocks = 0;
  int32_t kv_block_size = 0;    // positions per block
  int32_t sliding_window = 0;   // keys a position sees, its own included; 0: all before it
  uint64_t flops_per_slot = 0;  // expert FLOPs of one true slot: 2 * 3 * hidden * intermediate
  // FLOPs outside the experts, two per multiply-add, over all layers.
  uint64_t projection_flops = 0;         // per position: attention's q, k, v and o
  uint64_t attention_flops_per_key = 0;  // per position and key it sees: score and weighted sum
  uint64_t router_flops = 0;             // per position
  uint64_t lm_head_flops = 0;            // per row of logits
};

// One step's work. Tokens of a sequence are contiguous and in order; sequences follow each other.
struct ForwardBatch {
  std::vector<int32_t> token_ids;  // [num_tokens]
  std::vector<int32_t> positions;  // [num_tokens], position in its sequence
  std::vector<int32_t>
      kv_slots;  // [num_tokens], where its key and value go: block id * block size + offset
  std::vector<float> null_bias;       // [num_tokens], see ComputeDial
  std::vector<uint32_t> max_experts;  // [num_tokens], see ComputeDial; 0: no limit
  std::vector<int32_t>
      token_begin;  // [num_sequences + 1], first token of each sequence, then num_tokens
  std::vector<int32_t>
      context_lens;  // [num_sequences], position of the sequence's last token in this step, plus 1
  // [num_sequences], blocks of each sequence in order of position; covers its context.
  std::vector<std::vector<int32_t>> block_tables;
  std::vector<int32_t> logit_rows;  // tokens whose logits are wanted, ascending

  int32_t num_tokens() const { return static_cast<int32_t>(token_ids.size()); }
  int32_t num_sequences() const { return static_cast<int32_t>(context_lens.size()); }
};

struct ForwardResult {
  std::vector<float> logits;  // [logit_rows, vocab]
  // Router slots per position and layer, [num_tokens, num_layers]. `executed` is counted by the
  // expert kernel as it runs a row; the other two by the router. Their sum must be k: the executor
  // checks.
  std::vector<uint8_t> executed;
  std::vector<uint8_t> null_slots;
  std::vector<uint8_t> dropped;
  std::vector<uint32_t> expert_rows;  // [num_layers, num_experts], rows each true expert ran
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelDimensions& dimensions() const = 0;

  // Runs the batch, writes its keys and values into the cache and fills *result (whose vectors are
  // reused from step to step). INTERNAL when the device fails; the cache slots of this batch then
  // hold nothing of use. REQUIRES: num_tokens >= 1; ids, positions, blocks and rows in range.
  virtual absl::Status Forward(const ForwardBatch& batch, ForwardResult* result) = 0;

  // True once the device has failed for good: every later Forward fails.
  virtual bool lost() const { return false; }
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_MODEL_H_
