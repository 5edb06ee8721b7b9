// Questions with answers as training examples: the loss is taken over the answers alone.
#ifndef ADAMOE_TRAIN_CHOICE_EXAMPLES_H_
#define ADAMOE_TRAIN_CHOICE_EXAMPLES_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"
#include "train/trainer.h"

namespace adamoe {

struct AnsweredPrompt {
  std::vector<int32_t> tokens;    // <s>, prompt, answer, </s>
  int64_t num_prompt_tokens = 0;  // <s> included; in [1, tokens.size() - 1]
};

// Draws every prompt once a pass, in an order that the prompts, `batch` and the seed decide.
//
// A row is a prompt, padded at its end with </s> to the longest of its draw: attention is causal,
// so nothing sees the padding, but its experts are computed. To keep it short, prompts of similar
// length are drawn together: a pass is shuffled, cut into pools of 50 batches, a pool is sorted by
// length and its batches are drawn in random order. Thread-compatible.
class ChoiceExamples final : public ExampleSource {
 public:
  // batch: rows a Draw is expected to ask for; others are right, but pad more. REQUIRES: prompts is
  // not empty; batch >= 1.
  ChoiceExamples(std::vector<AnsweredPrompt> prompts, int64_t batch, uint64_t seed);

  // `counted` is true at the targets that are the answer's tokens and the </s> behind it.
  Examples Draw(int64_t num_rows) override;
  void Skip(int64_t num_rows) override;

  int64_t num_prompts() const { return static_cast<int64_t>(prompts_.size()); }

 private:
  size_t Next();
  void BeginPass();
  // Appends prompts `pool` names to the order, batches of similar length in random order.
  void AddPool(std::vector<size_t> pool);

  const std::vector<AnsweredPrompt> prompts_;
  const size_t batch_;
  std::mt19937_64 random_;
  std::deque<size_t> order_;  // of prompts not drawn yet
};

// The prompts of `files`, JSON lines, plain or gzip. The first line of a file says which kind it
// holds: multiple-choice questions (choices_file.h), of which the right answer is learned, or
// instructions: {"instruction" or "prompt": "...", "input": "..." (optional), "output" or
// "completion": "..."}, other keys passed over. An instruction, its input on a new line, is put in
// the same words as a question. Prompts of more than window + 1 tokens are left out, with a line in
// the log. NOT_FOUND or DATA_LOSS as ReadTextFile; INVALID_ARGUMENT "PATH: line N: what is wrong",
// or names the file of which nothing is left.
absl::StatusOr<std::unique_ptr<ChoiceExamples>> OpenChoiceExamples(
    const std::vector<std::string>& files, int64_t window, int64_t batch, uint64_t seed,
    const Tokenizer& tokenizer);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_CHOICE_EXAMPLES_H_
