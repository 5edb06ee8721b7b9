#include "server/kernels/packed.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace adamoe {
namespace {

constexpr int kInt4Zero = 8;

constexpr int64_t GroupOf(DType dtype) { return dtype == DType::kInt8 ? kInt8Group : kInt4Group; }

// The value as bfloat16 holds it.
float Rounded(float value) { return FloatFromBf16(Bf16FromFloat(value)); }

// A group's values in units of a scale, limited to [low, high].
struct Range {
  float low;
  float high;

  float Quantise(float value, float inverse) const {
    // Adding 1.5 * 2^23 rounds to the nearest integer.
    const float scaled = std::min(std::max(value * inverse, low), high);
    return (scaled + 12582912.0f) - 12582912.0f;
  }
};
constexpr Range kInt8Range{-127, 127};
constexpr Range kInt4Range{-8, 7};

// In units of the largest value: squares of values themselves may not be finite.
float SquaredError(const float* values, float scale, float largest) {
  const float inverse = 1.0f / scale;
  const float unit = 1.0f / largest;
  float sum = 0;
  for (int64_t i = 0; i < kInt4Group; ++i) {
    const float error = (kInt4Range.Quantise(values[i], inverse) * scale - values[i]) * unit;
    sum += error * error;
  }
  return sum;
}

// The largest value may fall on either end of [-8, 7], or be cut a little so that the others are
// nearer.
float Int4Scale(const float* values, float largest) {
  float best = 0;
  float least = std::numeric_limits<float>::infinity();
  for (float end : {-9.0f, -8.5f, -8.0f, -7.5f, 6.5f, 7.0f, 7.5f, 8.0f}) {
    const float scale = Rounded(largest / end);
    const float error = SquaredError(values, scale, largest);
    if (error >= least) continue;
    best = scale;
    least = error;
  }
  return best;
}

// The scale of a group, as bfloat16 holds it. values: [GroupOf(dtype)].
float ScaleOf(DType dtype, const float* values) {
  constexpr float kSmallest = 1e-30f;  // below it a scale's inverse may not be finite
  float largest = 0;
  float zero = 0;  // NaN when a value is not finite
  for (int64_t i = 0; i < GroupOf(dtype); ++i) {
    if (std::abs(values[i]) > std::abs(largest)) largest = values[i];
    zero += values[i] * 0.0f;
  }
  if (std::isnan(zero)) return zero;
  if (std::abs(largest) < kSmallest) return 0;
  if (dtype == DType::kInt4) return Int4Scale(values, largest);
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

void Put(DType dtype, int64_t row, int64_t col, float q, uint8_t* data) {
  const Place place = PlaceOf(dtype, row, col);
  const int value = static_cast<int>(q);
  if (dtype == DType::kInt8) {
    data[place.byte] = static_cast<uint8_t>(value);
  } else {
    data[place.byte] |= static_cast<uint8_t>((value + kInt4Zero) << place.shift);
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
        for (int64_t i = col; i < col + group; ++i) {
          const float value = std::isnan(scale) ? 0.0f : values[i];
          Put(dtype, row, i, range.Quantise(value, inverse), block_data);
        }
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
