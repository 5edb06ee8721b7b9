// The small operations against the reference.
#include <algorithm>
#include <cmath>
#include <limits>

#include "server/kernels/cuda/elementwise.h"
#include "server/kernels/cuda/random_fill.h"
#include "server/kernels/cuda/sampling.h"
#include "tests/fakes/reference_ops.h"
#include "tests/gpu/kernels/check_values.h"
#include "tests/gpu/kernels/checks.h"
#include "tests/gpu/kernels/device_memory.h"

namespace adamoe {

void CheckEmbed() {
  constexpr int32_t kVocab = 11;
  for (int32_t hidden : {8, 32, 264}) {
    const auto table = RandomBf16(int64_t{kVocab} * hidden, 1);
    const std::vector<int32_t> ids = {10, 0, 3, 3};
    const DeviceArray<uint16_t> device_table(table);
    const DeviceArray<int32_t> device_ids(ids);
    const DeviceArray<float> out(4 * hidden);
    ExpectLaunched(cuda::Embed(device_table.get(), device_ids.get(), 4, hidden, out.get(), nullptr),
                   "embed");
    std::vector<float> expected(out.size());
    ReferenceOps().Embed({table.data(), DType::kBFloat16, kVocab, hidden}, ids.data(), 4,
                         expected.data());
    ExpectEqual(out.ToHost(), expected, "embed");
  }
}

void CheckRmsNorm() {
  constexpr int32_t kTokens = 5;
  const std::vector<int32_t> rows = {4, 0, 2};
  for (int32_t hidden : {8, 40, 1032, 4096}) {
    const auto x = RandomFloats(int64_t{kTokens} * hidden, 3);
    const auto weight = RandomFloats(hidden, 4);
    const DeviceArray<float> device_x(x);
    const DeviceArray<float> device_weight(weight);
    const DeviceArray<int32_t> device_rows(rows);
    std::vector<float> all(x.size());
    ReferenceOps().RmsNorm(x.data(), weight.data(), 1e-5f, kTokens, hidden, all.data());
    for (const bool some : {false, true}) {
      const int32_t num_rows = some ? 3 : kTokens;
      const DeviceArray<uint16_t> normed(int64_t{num_rows} * hidden);
      const DeviceArray<float> wide(int64_t{num_rows} * hidden);
      cuda::RmsNormArgs args{.residual = device_x.get(),
                             .weight = device_weight.get(),
                             .eps = 1e-5f,
                             .num_rows = num_rows,
                             .hidden = hidden,
                             .rows = some ? device_rows.get() : nullptr,
                             .normed = normed.get(),
                             .normed_float32 = some ? nullptr : wide.get()};
      ExpectLaunched(cuda::RmsNorm(args, nullptr), "norm");
      std::vector<float> expected;
      for (int32_t r = 0; r < num_rows; ++r) {
        const auto from = all.begin() + int64_t{some ? rows[r] : r} * hidden;
        expected.insert(expected.end(), from, from + hidden);
      }
      ExpectNear(ToFloat(normed.ToHost()), expected, 0.02, "norm, rounded");
      if (!some) ExpectNear(wide.ToHost(), expected, 2e-5, "norm");
      Expect(device_x.ToHost() == x, "norm changed its input");
    }
  }
}

void CheckRopeAppendKv() {
  struct Shape {
    int32_t heads, kv_heads, head_dim;
  };
  for (const Shape& s : {Shape{4, 2, 8}, {2, 2, 128}, {8, 4, 32}, {3, 1, 256}}) {
    constexpr int32_t kTokens = 4;
    constexpr int32_t kBlocks = 3;
    constexpr int32_t kBlockSize = 4;
    const std::vector<int32_t> positions = {0, 5, 70000, 3};
    const std::vector<int32_t> slots = {7, 2, 9, -1};  // the last one is padding
    const int64_t width = int64_t{s.heads + 2 * s.kv_heads} * s.head_dim;
    const int64_t q_size = int64_t{s.heads} * s.head_dim;
    const int64_t kv_size = int64_t{s.kv_heads} * s.head_dim;
    std::vector<float> frequency;
    for (int32_t i = 0; i < s.head_dim / 2; ++i) {
      frequency.push_back(
          1.0f / std::pow(1e4f, static_cast<float>(2 * i) / static_cast<float>(s.head_dim)));
    }
    const auto qkv = RandomFloats(kTokens * width, 5);
    const DeviceArray<float> device_qkv(qkv);
    const DeviceArray<int32_t> device_positions(positions);
    const DeviceArray<int32_t> device_slots(slots);
    const DeviceArray<float> device_frequency(frequency);
    const DeviceArray<uint16_t> keys(kBlocks * kBlockSize * kv_size);
    const DeviceArray<uint16_t> values(kBlocks * kBlockSize * kv_size);
    ExpectLaunched(cuda::RopeAppendKv(
                       {.qkv = device_qkv.get(),
                        .positions = device_positions.get(),
                        .slots = device_slots.get(),
                        .inverse_frequency = device_frequency.get(),
                        .num_tokens = kTokens,
                        .num_heads = s.heads,
                        .cache = {keys.get(), values.get(), kBlockSize, s.kv_heads, s.head_dim}},
                       nullptr),
                   "rope");

    std::vector<float> q, k, v;
    for (int32_t t = 0; t < kTokens; ++t) {
      const auto row = qkv.begin() + t * width;
      q.insert(q.end(), row, row + q_size);
      k.insert(k.end(), row + q_size, row + q_size + kv_size);
      v.insert(v.end(), row + q_size + kv_size, row + width);
    }
    ReferenceOps reference;
    reference.Rope(positions.data(), 1e4f, kTokens, s.heads, s.head_dim, q.data());
    reference.Rope(positions.data(), 1e4f, kTokens, s.kv_heads, s.head_dim, k.data());
    const std::vector<float> after = device_qkv.ToHost();
    const std::vector<uint16_t> stored_keys = keys.ToHost();
    const std::vector<uint16_t> stored_values = values.ToHost();
    std::vector<bool> written(kBlocks * kBlockSize, false);
    for (int32_t t = 0; t < kTokens; ++t) {
      const auto part = [](const auto& from, int64_t begin, int64_t size) {
        return std::vector(from.begin() + begin, from.begin() + begin + size);
      };
      ExpectNear(part(after, t * width, q_size), part(q, t * q_size, q_size), 2e-5,
                 "rope, queries");
      if (slots[t] < 0) continue;
      written[slots[t]] = true;
      ExpectNear(ToFloat(part(stored_keys, slots[t] * kv_size, kv_size)),
                 part(k, t * kv_size, kv_size), 0.01, "rope, keys");
      ExpectEqual(part(stored_values, slots[t] * kv_size, kv_size),
                  ToBf16(part(v, t * kv_size, kv_size)), "append, values");
    }
    for (int32_t slot = 0; slot < kBlocks * kBlockSize; ++slot) {
      if (written[slot]) continue;
      Expect(Untouched(&stored_keys[slot * kv_size], 2 * kv_size) &&
                 Untouched(&stored_values[slot * kv_size], 2 * kv_size),
             "append wrote a slot that is not of this batch");
    }
  }
}

void CheckSummarizeRows() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int32_t vocab : {1, 5, 300, 2500}) {
    constexpr int32_t kRows = 4;
    auto logits = RandomFloats(int64_t{kRows} * vocab, 8, 20.0f);
    logits[vocab - 1] = 50.0f;  // row 0: the last one
    logits[vocab + vocab / 2] = 60.0f;
    logits[vocab + vocab - 1] = 60.0f;  // row 1: equals, unless they are one
    logits[2 * vocab + vocab / 3] = nan;
    for (int32_t i = 0; i < vocab; ++i) logits[3 * vocab + i] -= 1e4f;
    const DeviceArray<float> device_logits(logits);
    const DeviceArray<cuda::RowSummary> summaries(kRows);
    ExpectLaunched(cuda::SummarizeRows(device_logits.get(), kRows, vocab, summaries.get(), nullptr),
                   "summaries");
    const auto actual = summaries.ToHost();
    Expect(actual[0].argmax == vocab - 1 && actual[0].max == 50.0f, "argmax of row 0");
    Expect(actual[1].argmax == vocab / 2, "argmax of equals");
    Expect(actual[2].argmax == -1 && std::isnan(actual[2].max), "a row with NaN");
    for (int32_t r : {0, 1, 3}) {
      const auto row = logits.begin() + int64_t{r} * vocab;
      const double largest = *std::max_element(row, row + vocab);
      double sum = 0.0;
      for (int32_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - largest);
      ExpectNear({actual[r].log_sum_exp}, {static_cast<float>(largest + std::log(sum))}, 2e-3,
                 "log of the sum of exponentials");
    }
  }
}

void CheckFillRandom() {
  constexpr int64_t kSize = 40003;
  const DeviceArray<uint16_t> first(kSize);
  const DeviceArray<uint16_t> again(kSize);
  const DeviceArray<uint16_t> other(kSize);
  ExpectLaunched(cuda::FillRandomBf16(first.get(), kSize, 0.5f, 1, nullptr), "fill");
  ExpectLaunched(cuda::FillRandomBf16(again.get(), kSize, 0.5f, 1, nullptr), "fill");
  ExpectLaunched(cuda::FillRandomBf16(other.get(), kSize, 0.5f, 2, nullptr), "fill");
  Expect(first.ToHost() == again.ToHost(), "the same seed gives other values");
  Expect(first.ToHost() != other.ToHost(), "another seed gives the same values");
  double sum = 0.0;
  double squares = 0.0;
  for (float value : ToFloat(first.ToHost())) {
    Expect(value >= -0.5f && value <= 0.5f, "a value out of range");
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  Expect(std::abs(sum / kSize) < 0.01, "the mean is not 0");
  Expect(std::abs(squares / kSize - 0.25 / 3) < 0.005, "the variance is not scale^2 / 3");
}

}  // namespace adamoe
