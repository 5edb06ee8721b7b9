// The golden checkpoints under tests/golden/model, with the answers their expected.json gives.
#ifndef ADAMOE_TESTS_UNIT_MODEL_GOLDEN_H_
#define ADAMOE_TESTS_UNIT_MODEL_GOLDEN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/kernels/ops.h"
#include "server/model/mixtral_model.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {

// One prompt, its greedy continuation, and what each position fed (all tokens but the last)
// answers.
struct GoldenSequence {
  std::vector<int32_t> prompt;
  std::vector<int32_t> greedy;
  float null_bias = 0.0f;
  uint32_t max_experts = 0;
  std::vector<float> next_logprobs;                        // [positions], of the token that follows
  std::vector<std::vector<int32_t>> top_ids;               // [positions][top]
  std::vector<std::vector<float>> top_logprobs;            // [positions][top]
  std::vector<std::vector<std::vector<int32_t>>> experts;  // [layers][positions], true experts run
  std::vector<std::vector<int32_t>> null_slots;            // [layers][positions]
  std::vector<std::vector<int32_t>> dropped;               // [layers][positions]

  // Prompt and continuation but for its last token.
  std::vector<int32_t> Fed() const;
};

struct Golden {
  std::string name;
  int32_t experts_per_token = 0;
  int32_t num_null_experts = 0;
  std::vector<GoldenSequence> sequences;
};

// Folders of tests/golden/model, sorted.
std::vector<std::string> GoldenNames();

Golden ReadGolden(const std::string& name);

// The folder's weights, with its adapter if it has one. A test failure when they do not load.
MixtralWeights LoadGoldenWeights(const std::string& name);

// A model of it with room for 512 positions in blocks of `block_size`.
std::unique_ptr<MixtralModel> LoadGoldenModel(const std::string& name, std::unique_ptr<Ops> ops,
                                              int32_t block_size = 16);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_MODEL_GOLDEN_H_
