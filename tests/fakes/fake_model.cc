#include "tests/fakes/fake_model.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace adamoe {
namespace {

uint64_t Combine(uint64_t state, uint64_t value) {
  uint64_t x = state * 0x2545f4914f6cdd1du + value + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 32);
}

uint64_t Fingerprint(const ForwardBatch& batch, int32_t token) {
  uint32_t bias;
  std::memcpy(&bias, &batch.null_bias[token], sizeof(bias));
  const uint64_t dial = uint64_t{bias} << 32 | batch.max_experts[token];
  return Combine(Combine(batch.token_ids[token], batch.positions[token]), dial);
}

}  // namespace

ModelDimensions FakeModel::SmallDimensions() {
  ModelDimensions dimensions;
  dimensions.vocab_size = 97;
  dimensions.num_layers = 2;
  dimensions.num_experts = 4;
  dimensions.num_null_experts = 4;
  dimensions.experts_per_token = 3;
  dimensions.max_context_tokens = 4096;
  dimensions.num_kv_blocks = 64;
  dimensions.kv_block_size = 4;
  dimensions.flops_per_slot = 1000;
  return dimensions;
}

FakeModel::FakeModel(const ModelDimensions& dimensions)
    : dimensions_(dimensions),
      fingerprints_(static_cast<size_t>(dimensions.num_kv_blocks) * dimensions.kv_block_size) {}

absl::Status FakeModel::Forward(const ForwardBatch& batch, ForwardResult* result) {
  const int step = num_steps_;
  Count(batch);
  if (before_step_) before_step_(step, batch);
  if (step == faults_.throw_step) throw std::runtime_error("the fake device is gone");
  lost_ |= step == faults_.lose_step;
  if (lost_) return absl::UnknownError("the fake device is lost");
  if (step == faults_.fail_step) return absl::UnknownError("the fake device has failed");
  std::vector<uint64_t> states(batch.num_tokens());
  for (int32_t i = 0; i < batch.num_tokens(); ++i) {
    fingerprints_.at(batch.kv_slots[i]) = Fingerprint(batch, i);
  }
  for (int32_t i = 0; i < batch.num_sequences(); ++i) RunSequence(batch, i, &states);
  FillLogits(batch, states, result);
  FillCounts(batch, result);
  if (step == faults_.skip_row_step) --result->executed.back();
  if (step == faults_.nan_step && !result->logits.empty()) {
    result->logits.back() = std::numeric_limits<float>::quiet_NaN();
  }
  return absl::OkStatus();
}

void FakeModel::RunSequence(const ForwardBatch& batch, int32_t sequence,
                            std::vector<uint64_t>* states) {
  const std::vector<int32_t>& blocks = batch.block_tables[sequence];
  int32_t token = batch.token_begin[sequence];
  uint64_t state = 0;
  for (int32_t position = 0; position < batch.context_lens[sequence]; ++position) {
    const int32_t block = blocks.at(position / dimensions_.kv_block_size);
    const int32_t slot = block * dimensions_.kv_block_size + position % dimensions_.kv_block_size;
    state = Combine(state, fingerprints_.at(slot));
    if (position == batch.positions[token]) (*states)[token++] = state;
  }
}

// Spread over [0, 6), so that sampling at temperature 1 has something to choose from.
void FakeModel::FillLogits(const ForwardBatch& batch, const std::vector<uint64_t>& states,
                           ForwardResult* result) const {
  result->logits.clear();
  for (const int32_t row : batch.logit_rows) {
    for (int32_t id = 0; id < dimensions_.vocab_size; ++id) {
      result->logits.push_back(static_cast<float>(Combine(states[row], id) >> 40) * 0x6p-24f);
    }
  }
}

// Picks k of the n + m experts by the position's fingerprint; a null_bias above 0 turns every pick
// null.
void FakeModel::FillCounts(const ForwardBatch& batch, ForwardResult* result) const {
  const int32_t num_layers = dimensions_.num_layers;
  const int32_t num_choices = dimensions_.num_experts + dimensions_.num_null_experts;
  const size_t size = static_cast<size_t>(batch.num_tokens()) * num_layers;
  result->executed.assign(size, 0);
  result->null_slots.assign(size, 0);
  result->dropped.assign(size, 0);
  result->expert_rows.assign(static_cast<size_t>(num_layers) * dimensions_.num_experts, 0);
  for (size_t i = 0; i < size; ++i) {
    const int32_t token = static_cast<int32_t>(i / num_layers);
    const int32_t layer = static_cast<int32_t>(i % num_layers);
    const uint64_t first = Combine(Fingerprint(batch, token), layer) % num_choices;
    for (int32_t pick = 0; pick < dimensions_.experts_per_token; ++pick) {
      const int32_t expert = static_cast<int32_t>((first + pick) % num_choices);
      const uint32_t limit = batch.max_experts[token];
      if (expert >= dimensions_.num_experts || batch.null_bias[token] > 0) {
        ++result->null_slots[i];
      } else if (limit > 0 && result->executed[i] >= limit) {
        ++result->dropped[i];
      } else {
        ++result->executed[i];
        ++result->expert_rows[layer * dimensions_.num_experts + expert];
      }
    }
  }
}

void FakeModel::Count(const ForwardBatch& batch) {
  ++num_steps_;
  num_positions_ += batch.num_tokens();
  largest_step_ = std::max(largest_step_, batch.num_tokens());
}

}  // namespace adamoe
