#include "server/cuda/step_layout.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "server/cuda/layout.h"

namespace adamoe::cuda {
namespace {

// `values`, then `padding` up to `size` elements.
template <typename T>
void Write(const std::vector<T>& values, int64_t size, T padding, std::byte* out) {
  T* const elements = reinterpret_cast<T*>(out);
  std::fill(std::copy(values.begin(), values.end(), elements), elements + size, padding);
}

void WriteBytes(absl::Span<const std::byte> bytes, int64_t size, std::byte* out) {
  std::fill(std::copy(bytes.begin(), bytes.end(), out), out + size, std::byte{0});
}

void WriteBlockTables(const ForwardBatch& batch, const StepShape& shape, std::byte* out) {
  int32_t* row = reinterpret_cast<int32_t*>(out);
  int32_t* const end = row + int64_t{shape.num_sequences} * shape.max_blocks;
  for (const std::vector<int32_t>& table : batch.block_tables) {
    std::fill(std::copy(table.begin(), table.end(), row), row + shape.max_blocks, 0);
    row += shape.max_blocks;
  }
  std::fill(row, end, 0);
}

}  // namespace

InputLayout::InputLayout(const StepShape& shape) {
  Layout layout;
  const int64_t per_token = int64_t{shape.num_tokens} * 4;
  token_ids = layout.Add(per_token);
  positions = layout.Add(per_token);
  kv_slots = layout.Add(per_token);
  null_bias = layout.Add(per_token);
  max_experts = layout.Add(per_token);
  num_valid_tokens = layout.Add(4);
  decode_work = layout.Add(shape.num_decode_work * kWorkBytes);
  prefill_work = layout.Add(shape.num_prefill_work * kWorkBytes);
  logit_rows = layout.Add(int64_t{shape.num_logit_rows} * 4);
  block_tables = layout.Add(int64_t{shape.num_sequences} * shape.max_blocks * 4);
  num_bytes = layout.num_bytes();
}

void WriteInputs(const ForwardBatch& batch, const AttentionWorkBytes& work, const StepShape& shape,
                 std::byte* out) {
  const InputLayout layout(shape);
  Write(batch.token_ids, shape.num_tokens, 0, out + layout.token_ids);
  Write(batch.positions, shape.num_tokens, 0, out + layout.positions);
  Write(batch.kv_slots, shape.num_tokens, -1, out + layout.kv_slots);
  Write(batch.null_bias, shape.num_tokens, 0.0f, out + layout.null_bias);
  Write(batch.max_experts, shape.num_tokens, 0u, out + layout.max_experts);
  const int32_t num_tokens = batch.num_tokens();
  std::memcpy(out + layout.num_valid_tokens, &num_tokens, sizeof(num_tokens));
  WriteBytes(work.decode, shape.num_decode_work * kWorkBytes, out + layout.decode_work);
  WriteBytes(work.prefill, shape.num_prefill_work * kWorkBytes, out + layout.prefill_work);
  Write(batch.logit_rows, shape.num_logit_rows, 0, out + layout.logit_rows);
  WriteBlockTables(batch, shape, out + layout.block_tables);
}

CountLayout::CountLayout(int32_t num_tokens, int32_t num_layers, int32_t num_experts) {
  Layout layout;
  const int64_t slots = int64_t{num_tokens} * num_layers;
  executed = layout.Add(slots);
  null_slots = layout.Add(slots);
  dropped = layout.Add(slots);
  expert_rows = layout.Add(int64_t{num_layers} * num_experts * 4);
  num_bytes = layout.num_bytes();
}

void ReadCounts(const std::byte* counts, const CountLayout& layout, int32_t num_tokens,
                const ModelDimensions& dimensions, ForwardResult* result) {
  const auto read = [counts](int64_t offset, size_t size, auto& vector) {
    vector.resize(size);
    std::memcpy(vector.data(), counts + offset, size * sizeof(vector[0]));
  };
  const size_t slots = static_cast<size_t>(num_tokens) * dimensions.num_layers;
  read(layout.executed, slots, result->executed);
  read(layout.null_slots, slots, result->null_slots);
  read(layout.dropped, slots, result->dropped);
  read(layout.expert_rows, static_cast<size_t>(dimensions.num_layers) * dimensions.num_experts,
       result->expert_rows);
}

}  // namespace adamoe::cuda
