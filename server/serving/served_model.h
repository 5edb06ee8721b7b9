// What is served, as requests are checked against it and GetModelInfo reports it. Plain values,
// fixed at start.
#ifndef ADAMOE_SERVER_SERVING_SERVED_MODEL_H_
#define ADAMOE_SERVER_SERVING_SERVED_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/metrics/expert_flops.h"

namespace adamoe {

struct ServedModel {
  std::string folder;        // absolute path of the model folder
  std::string name;          // its last path component
  std::string architecture;  // as config.json says
  std::string weight_dtype;
  std::string activation_dtype;
  std::string device;  // "cpu" or "cuda"
  std::string server_version;
  int32_t vocab_size = 0;
  int32_t num_layers = 0;
  int32_t num_experts = 0;              // n
  int32_t num_null_experts = 0;         // m
  int32_t experts_per_token = 0;        // k
  int32_t max_context_tokens = 0;       // prompt and output together
  int32_t kv_block_size = 0;            // positions of a block of the KV cache
  int32_t prefix_cache_block_size = 0;  // positions shared at a time; 0: no prefix cache
  int32_t max_running_requests = 0;     // in a batch
  size_t max_text_bytes = 0;            // no longer text can fit the context; 0: unknown
  int32_t bos_token_id = -1;            // -1: none
  std::vector<int32_t> eos_token_ids;
  ExpertFlopsRates flops;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_SERVED_MODEL_H_
