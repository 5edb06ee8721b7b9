#include "tests/unit/model/model_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace adamoe {

ModelRunner::ModelRunner(Model* model, std::vector<int32_t> block_order)
    : model_(model), free_blocks_(std::move(block_order)) {
  if (free_blocks_.empty()) {
    free_blocks_.resize(model->dimensions().num_kv_blocks);
    std::iota(free_blocks_.begin(), free_blocks_.end(), 0);
  }
  std::reverse(free_blocks_.begin(), free_blocks_.end());
}

int ModelRunner::AddSequence() {
  sequences_.emplace_back();
  return static_cast<int>(sequences_.size()) - 1;
}

void ModelRunner::Append(const Feed& feed, ForwardBatch* batch) {
  const int32_t block_size = model_->dimensions().kv_block_size;
  Sequence& sequence = sequences_[feed.sequence];
  int32_t position = static_cast<int32_t>(sequence.answers.size());
  for (int32_t token : feed.tokens) {
    if (position / block_size == static_cast<int32_t>(sequence.blocks.size())) {
      ASSERT_FALSE(free_blocks_.empty()) << "the test's cache is too small";
      sequence.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    batch->logit_rows.push_back(batch->num_tokens());
    batch->token_ids.push_back(token);
    batch->positions.push_back(position);
    batch->kv_slots.push_back(sequence.blocks.back() * block_size + position % block_size);
    batch->null_bias.push_back(feed.null_bias);
    batch->max_experts.push_back(feed.max_experts);
    ++position;
  }
  batch->token_begin.push_back(batch->num_tokens());
  batch->context_lens.push_back(position);
  batch->block_tables.push_back(sequence.blocks);
}

void ModelRunner::Step(const std::vector<Feed>& feeds) {
  ForwardBatch batch;
  batch.token_begin = {0};
  for (const Feed& feed : feeds) Append(feed, &batch);
  const absl::Status status = model_->Forward(batch, &result_);
  ASSERT_TRUE(status.ok()) << status;
  CheckSlots(batch.num_tokens());
  int32_t token = 0;
  for (const Feed& feed : feeds) {
    for (size_t i = 0; i < feed.tokens.size(); ++i) {
      sequences_[feed.sequence].answers.push_back(AnswerOf(token++));
    }
  }
}

void ModelRunner::CheckSlots(int32_t num_tokens) const {
  const ModelDimensions& dimensions = model_->dimensions();
  const size_t num_layers = dimensions.num_layers;
  ASSERT_EQ(result_.executed.size(), num_tokens * num_layers);
  for (size_t i = 0; i < result_.executed.size(); ++i) {
    ASSERT_EQ(result_.executed[i] + result_.null_slots[i] + result_.dropped[i],
              dimensions.experts_per_token);
  }
  for (size_t layer = 0; layer < num_layers; ++layer) {
    uint32_t executed = 0;
    for (int32_t t = 0; t < num_tokens; ++t) executed += result_.executed[t * num_layers + layer];
    const auto rows = result_.expert_rows.begin() + layer * dimensions.num_experts;
    ASSERT_EQ(std::accumulate(rows, rows + dimensions.num_experts, 0u), executed);
  }
}

PositionAnswer ModelRunner::AnswerOf(int32_t token) const {
  const auto slice = [token](const auto& values, int64_t width) {
    const auto begin = values.begin() + token * width;
    return std::vector(begin, begin + width);
  };
  const ModelDimensions& dimensions = model_->dimensions();
  return {slice(result_.logits, dimensions.vocab_size),
          slice(result_.executed, dimensions.num_layers),
          slice(result_.null_slots, dimensions.num_layers),
          slice(result_.dropped, dimensions.num_layers)};
}

std::vector<PositionAnswer> RunAlone(Model* model, const std::vector<int32_t>& prompt,
                                     const std::vector<int32_t>& rest, float null_bias,
                                     uint32_t max_experts) {
  ModelRunner runner(model);
  const int sequence = runner.AddSequence();
  runner.Step({{sequence, prompt, null_bias, max_experts}});
  for (int32_t token : rest) runner.Step({{sequence, {token}, null_bias, max_experts}});
  return runner.answers(sequence);
}

}  // namespace adamoe
