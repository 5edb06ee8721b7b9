// Weight matrices in 8 or 4 bits, in the order in which the product kernels read them.
//
// Each row's columns are taken in groups that share a scale: w[r][k] is about scale * q, q in
// [-127, 127] for int8 and [-8, 7] for int4. Rows are taken in blocks of 16 that lie one after the
// other, columns are padded with zeros to a multiple of 64:
//   scales  [row blocks, groups, 16], bfloat16
//   int8    [row blocks, column pairs, 16 rows, 2]
//   int4    [row blocks, columns / 8, 16 rows, 2] of 16 bits, which hold q + 8 of the columns
//           (i, i + 2, i + 4, i + 6) of 8, i the place in the pair, the first one lowest
// Rows past the last of a block have scale 0. All functions are thread-safe.
#ifndef ADAMOE_SERVER_KERNELS_PACKED_H_
#define ADAMOE_SERVER_KERNELS_PACKED_H_

#include <cstdint>

#include "server/base/dtype.h"
#include "server/kernels/ops.h"

namespace adamoe {

constexpr int64_t kPackedRows = 16;
constexpr int64_t kPackedCols = 64;
constexpr int64_t kInt8Group = 64;
constexpr int64_t kInt4Group = 32;

// Columns with their padding.
constexpr int64_t PaddedCols(int64_t cols) {
  return (cols + kPackedCols - 1) / kPackedCols * kPackedCols;
}

// What a packed matrix takes. `dtype` is kInt8 or kInt4.
struct PackedSize {
  int64_t num_blocks;       // of 16 rows
  int64_t bytes_per_block;  // of data
  int64_t scales_per_block;
};
PackedSize PackedSizeOf(DType dtype, int64_t rows, int64_t cols);

// Quantises row blocks [first, last) of `w`, whose type is not packed, to `dtype`. int8 keeps each
// group's largest value; int4 takes the scale of least squared error among a few. A group with a
// value that is not finite gets the scale NaN. data: [num_blocks * bytes_per_block]; scales:
// [num_blocks * scales_per_block].
void Pack(const Matrix& w, DType dtype, int64_t first, int64_t last, uint8_t* data,
          uint16_t* scales);

// Row `row` of a packed matrix, as float32 to out, [cols].
void UnpackRow(const Matrix& w, int64_t row, float* out);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_PACKED_H_
