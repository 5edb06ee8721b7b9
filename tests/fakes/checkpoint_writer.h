// Writes whole checkpoint folders of random Mixtral and AdaMoE models, and adapters for them, in
// the formats that transformers and PEFT write. The same options give the same bytes. Not
// thread-safe.
//
//   CheckpointOptions options;                      // AdaMoE, 4 experts, 2 null experts, k = 3
//   options.config.num_layers = 3;
//   ASSERT_TRUE(WriteCheckpoint(options, dir).ok());
//   auto weights = LoadMixtral({.model_dir = dir});
#ifndef ADAMOE_TESTS_FAKES_CHECKPOINT_WRITER_H_
#define ADAMOE_TESTS_FAKES_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/base/dtype.h"
#include "server/weights/model_config.h"

namespace adamoe {

// Two layers, hidden 32, intermediate 48, 4 heads over 2 of keys and values, head_dim 8, vocabulary
// 300, 4 experts, 2 null experts, 3 picks.
ModelConfig SmallConfig();

struct CheckpointOptions {
  ModelConfig config = SmallConfig();  // num_null_experts > 0: with gate2
  DType dtype = DType::kBFloat16;
  int32_t num_shards = 1;  // above 1: shards and an index
  uint64_t seed = 1;
  // rope_parameters and dtype, as transformers writes since version 5, in place of rope_theta and
  // torch_dtype.
  bool new_style_config = false;
};

// Creates `dir` and writes config.json, generation_config.json and the weights: norms near 1,
// everything else with variance 1 / inputs (embeddings: 1).
absl::Status WriteCheckpoint(const CheckpointOptions& options, const std::string& dir);

// The text of the config.json of such a folder.
std::string ConfigJson(const CheckpointOptions& options);

struct AdapterOptions {
  ModelConfig config =
      SmallConfig();  // of the base; num_null_experts: rows of gate2's lora_B, 0: no gate2
  int32_t rank = 4;
  double lora_alpha = 8.0;
  // Which linear layers: of "gate", "gate2", "w1", "w2", "w3", "q_proj", "k_proj", "v_proj",
  // "o_proj".
  std::vector<std::string> targets = {"gate", "gate2", "w1", "w2", "w3"};
  DType dtype = DType::kFloat32;
  uint64_t seed = 2;
};

// Creates `dir` and writes adapter_config.json and adapter_model.safetensors.
absl::Status WriteAdapter(const AdapterOptions& options, const std::string& dir);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_CHECKPOINT_WRITER_H_
