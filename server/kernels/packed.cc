#include "server/kernels/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace adamoe {
namespace {

constexpr int kInt4Zero = 8;

constexpr int64_t GroupOf(DType dtype) { return dtype == DType::kInt8 ? kInt8Group : kInt4Group; }

// The value as bfloat16 holds it.
float Rounded(float value) { return FloatFromBf16(Bf16FromFloat(value)); }

// Limits of a type's values.
struct Range {
  float low;
  float high;
};
// Added to a float and taken off again: leaves the nearest integer. 1.5 * 2^23.
constexpr float kToInteger = 12582912.0f;
constexpr Range kInt8Range{-127, 127};
constexpr Range kInt4Range{-8, 7};

// Quantising a model is one long loop over groups of weights: these functions, whose loops become
// vectors, are compiled for wider registers too and chosen when the program starts.
#if defined(__x86_64__)
#define ADAMOE_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ADAMOE_WIDE
#endif

// What a group's scale depends on.
struct Spread {
  float low;
  float high;
  float zero;  // NaN when a value is not finite
};

using Eight = float __attribute__((vector_size(32)));
using Integers = int32_t __attribute__((vector_size(32)));

// values: [n].
ADAMOE_WIDE Spread SpreadOf(const float* values, int64_t n) {
  Eight low = {};
  Eight high = {};
  Eight zero = {};
  for (int64_t i = 0; i < n; i += 8) {
    Eight v;
    std::memcpy(&v, values + i, sizeof(v));
    low = v < low ? v : low;
    high = v > high ? v : high;
    zero += v * 0.0f;
  }
  Spread spread = {};
  for (int i = 0; i < 8; ++i) {
    spread.low = std::min(spread.low, low[i]);
    spread.high = std::max(spread.high, high[i]);
    spread.zero += zero[i];
  }
  return spread;
}

// The scale of an int4 group, of a few that are tried: its largest value may fall on either end of
// [-8, 7], or be cut a little so that the others are nearer. The one of least squared error is
// taken, in units of the largest value: squares of values themselves may not be finite. values:
// [kInt4Group], finite. `range` is kInt4Range: a limit that the compiler knows costs it a blend for
// what is one instruction.
ADAMOE_WIDE float Int4Scale(const float* values, float largest, Range range) {
  constexpr Eight kEnds = {-9.0f, -8.5f, -8.0f, -7.5f, 6.5f, 7.0f, 7.5f, 8.0f};
  const Eight low = Eight{} + range.low;
  const Eight high = Eight{} + range.high;
  const float unit = 1.0f / largest;
  // As bfloat16 holds them.
  Integers rounded = reinterpret_cast<Integers>(largest / kEnds);
  rounded = (rounded + 0x7fff + (rounded >> 16 & 1)) & ~0xffff;
  const Eight scale = reinterpret_cast<Eight>(rounded) * unit;
  const Eight inverse = 1.0f / reinterpret_cast<Eight>(rounded);
  Eight sum = {};
  for (int64_t i = 0; i < kInt4Group; ++i) {
    const Eight exact = values[i] * inverse;
    Eight q = exact > low ? exact : low;
    q = q < high ? q : high;
    const Eight error = (q + kToInteger - kToInteger) - exact;
    sum += error * error;
  }
  sum *= scale * scale;
  int best = 0;
  for (int i = 1; i < 8; ++i) best = sum[i] < sum[best] ? i : best;
  return reinterpret_cast<Eight>(rounded)[best];
}

// values, q: [n].
ADAMOE_WIDE void QuantiseGroup(const float* values, int64_t n, float inverse, Range range,
                               int8_t* q) {
  for (int64_t i = 0; i < n; ++i) {
    const float limited = std::min(std::max(values[i] * inverse, range.low), range.high);
    q[i] = static_cast<int8_t>(static_cast<int32_t>((limited + kToInteger) - kToInteger));
  }
}

// The scale of a group, as bfloat16 holds it. values: [GroupOf(dtype)].
float ScaleOf(DType dtype, const float* values) {
  constexpr float kSmallest = 1e-30f;  // below it a scale's inverse may not be finite
  const Spread spread = SpreadOf(values, GroupOf(dtype));
  if (std::isnan(spread.zero)) return spread.zero;
  const float largest = spread.high >= -spread.low ? spread.high : spread.low;
  if (std::abs(largest) < kSmallest) return 0;
  if (dtype == DType::kInt4) return Int4Scale(values, largest, kInt4Range);
  return Rounded(std::abs(largest) / kInt8Range.high);
}

// Where column `col` of row `row` of a block lies in its data.
struct Place {
  int64_t byte;
  int shift;  // of 4 bits in the byte
};
Place PlaceOf(DType dtype, int64_t row, int64_t col) {
  const int64_t side = col % 2;
  if (dtype == DType::kInt8) return {(col / 2 * kPackedRows + row) * 2 + side, 0};
  const int64_t word = (col / 8 * kPackedRows + row) * 2 + side;
  const int64_t nibble = col % 8 / 2;
  return {word * 2 + nibble / 2, static_cast<int>(nibble % 2 * 4)};
}

// Writes a group of row `row` of a block, q: [GroupOf(dtype)], from column `col` on.
void PutGroup(DType dtype, int64_t row, int64_t col, const int8_t* q, uint8_t* data) {
  uint8_t* out = data + PlaceOf(dtype, row, col).byte;
  if (dtype == DType::kInt8) {
    for (int64_t i = 0; i < kInt8Group; i += 2, out += 2 * kPackedRows) std::memcpy(out, q + i, 2);
    return;
  }
  for (int64_t i = 0; i < kInt4Group; i += 8, out += 4 * kPackedRows) {
    uint64_t eight;
    std::memcpy(&eight, q + i, sizeof(eight));
    // q + 8 in each byte; then those two apart in one, in bytes 0, 1, 4 and 5.
    eight = (eight & 0x0f0f0f0f0f0f0f0f) ^ 0x0808080808080808;
    eight |= eight >> 12;
    const auto words = static_cast<uint32_t>((eight & 0xff) | (eight >> 24 & 0xff00) |
                                             (eight << 8 & 0xff0000) | (eight >> 16 & 0xff000000));
    std::memcpy(out, &words, sizeof(words));
  }
}

int Get(DType dtype, int64_t row, int64_t col, const uint8_t* data) {
  const Place place = PlaceOf(dtype, row, col);
  if (dtype == DType::kInt8) return static_cast<int8_t>(data[place.byte]);
  return (data[place.byte] >> place.shift & 15) - kInt4Zero;
}

}  // namespace

PackedSize PackedSizeOf(DType dtype, int64_t rows, int64_t cols) {
  const int64_t size = kPackedRows * PaddedCols(cols);
  return {(rows + kPackedRows - 1) / kPackedRows, dtype == DType::kInt8 ? size : size / 2,
          size / GroupOf(dtype)};
}

void Pack(const Matrix& w, DType dtype, int64_t first, int64_t last, uint8_t* data,
          uint16_t* scales) {
  const PackedSize size = PackedSizeOf(dtype, w.rows, w.cols);
  const int64_t group = GroupOf(dtype);
  const Range range = dtype == DType::kInt8 ? kInt8Range : kInt4Range;
  std::vector<float> values(PaddedCols(w.cols), 0.0f);
  int8_t q[kInt8Group];
  for (int64_t block = first; block < last; ++block) {
    uint8_t* block_data = data + block * size.bytes_per_block;
    uint16_t* block_scales = scales + block * size.scales_per_block;
    std::fill_n(block_data, size.bytes_per_block, uint8_t{0});
    std::fill_n(block_scales, size.scales_per_block, uint16_t{0});
    const int64_t num_rows = std::min(kPackedRows, w.rows - block * kPackedRows);
    for (int64_t row = 0; row < num_rows; ++row) {
      CopyToFloat32(w.data, w.dtype, (block * kPackedRows + row) * w.cols, w.cols, values.data());
      for (int64_t col = 0; col < PaddedCols(w.cols); col += group) {
        const float scale = ScaleOf(dtype, values.data() + col);
        block_scales[col / group * kPackedRows + row] = Bf16FromFloat(scale);
        const float inverse = scale == 0 || std::isnan(scale) ? 0.0f : 1.0f / scale;
        if (std::isnan(scale)) std::fill_n(values.data() + col, group, 0.0f);
        QuantiseGroup(values.data() + col, group, inverse, range, q);
        PutGroup(dtype, row, col, q, block_data);
      }
    }
  }
}

void UnpackRow(const Matrix& w, int64_t row, float* out) {
  const PackedSize size = PackedSizeOf(w.dtype, w.rows, w.cols);
  const int64_t block = row / kPackedRows;
  const auto* data = static_cast<const uint8_t*>(w.data) + block * size.bytes_per_block;
  const uint16_t* scales = w.scales + block * size.scales_per_block;
  for (int64_t col = 0; col < w.cols; ++col) {
    const uint16_t scale = scales[col / GroupOf(w.dtype) * kPackedRows + row % kPackedRows];
    out[col] =
        FloatFromBf16(scale) * static_cast<float>(Get(w.dtype, row % kPackedRows, col, data));
  }
}

}  // namespace adamoe
