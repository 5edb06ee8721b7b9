// Drives a Model as the executor would, but by hand: sequences with block tables of their own, fed
// in any portions. Keeps what every position answered. Checks on every step that the slots add up.
// Not thread-safe.
#ifndef ADAMOE_TESTS_UNIT_MODEL_MODEL_RUNNER_H_
#define ADAMOE_TESTS_UNIT_MODEL_MODEL_RUNNER_H_

#include <cstdint>
#include <vector>

#include "server/model/model.h"

namespace adamoe {

// What the model said at one position.
struct PositionAnswer {
  std::vector<float> logits;        // [vocab]
  std::vector<uint8_t> executed;    // [num_layers]
  std::vector<uint8_t> null_slots;  // [num_layers]
  std::vector<uint8_t> dropped;     // [num_layers]

  // Bit for bit, but for the sign of zeros.
  bool operator==(const PositionAnswer&) const = default;
};

class ModelRunner {
 public:
  // Tokens to run for a sequence in one step, under a dial of their own.
  struct Feed {
    int sequence = 0;
    std::vector<int32_t> tokens;
    float null_bias = 0.0f;
    uint32_t max_experts = 0;
  };

  // Blocks are handed out in the order of `block_order` (by default ascending). Does not own the
  // model.
  explicit ModelRunner(Model* model, std::vector<int32_t> block_order = {});

  // A new, empty sequence; returns its number.
  int AddSequence();

  // One forward pass. Feeds of one sequence may appear only once.
  void Step(const std::vector<Feed>& feeds);

  // Every position of a sequence so far.
  const std::vector<PositionAnswer>& answers(int sequence) const {
    return sequences_[sequence].answers;
  }
  // [num_layers, num_experts] of the last step.
  const std::vector<uint32_t>& expert_rows() const { return result_.expert_rows; }

 private:
  struct Sequence {
    std::vector<int32_t> blocks;
    std::vector<PositionAnswer> answers;
  };

  void Append(const Feed& feed, ForwardBatch* batch);
  void CheckSlots(int32_t num_tokens) const;
  PositionAnswer AnswerOf(int32_t token) const;

  Model* const model_;
  std::vector<int32_t> free_blocks_;  // the next one last
  std::vector<Sequence> sequences_;
  ForwardResult result_;
};

// A sequence alone in the model: `prompt` in one step, then each of `rest` in a step of its own.
std::vector<PositionAnswer> RunAlone(Model* model, const std::vector<int32_t>& prompt,
                                     const std::vector<int32_t>& rest, float null_bias = 0.0f,
                                     uint32_t max_experts = 0);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_MODEL_MODEL_RUNNER_H_
