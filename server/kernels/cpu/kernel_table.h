// What one instruction set provides: plain functions over rows of numbers, without threads or
// memory of their own. Each table is compiled in its own file with its own target flags.
//
// Every result is one fixed chain of operations of its inputs: it does not depend on how many rows
// or tokens share the call, nor on where a row stands in it. (dot_bf16 and dot_tiles are two
// chains; product.h says which products go where.)
#ifndef ADAMOE_SERVER_KERNELS_CPU_KERNEL_TABLE_H_
#define ADAMOE_SERVER_KERNELS_CPU_KERNEL_TABLE_H_

#include <cstdint>

#include "server/base/dtype.h"

namespace adamoe {

// In isa.h, which files with target flags do not include: it brings code of other libraries, to be
// compiled without.
enum class Isa : uint8_t;

// y[t * y_stride + r] = sum over k of w[r * w_stride + k] * x[t][k].
struct DotArgs {
  // [rows, w_stride], of which [rows, cols] is read; or packed, at the start of a block of rows.
  const void* w = nullptr;
  DType w_dtype = DType::kFloat32;
  int64_t w_stride = 0;                // elements; not used of packed weights
  const uint16_t* w_scales = nullptr;  // of packed weights, at the first row
  int64_t rows = 0;
  int64_t cols = 0;
  const void* const* x = nullptr;  // [tokens] rows of [cols]
  int64_t tokens = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  // [DotScratch(rows, tokens)], or of tiles [TileScratch(tokens)]; not used with packed weights.
  float* scratch = nullptr;
};

// With many tokens, weights are taken in slices of so many rows and columns.
constexpr int64_t kSliceRows = 8;
constexpr int64_t kSliceCols = 512;

// Floats of scratch that a product wants: a slice, and a vector of partial sums for each output.
constexpr int64_t DotScratch(int64_t rows, int64_t tokens) {
  return kSliceRows * (kSliceCols + 16) + (rows + kSliceRows) * tokens * 16;
}

// Rows of activations that lie together as tiles (see to_tiles).
constexpr int64_t kTileTokenGroup = 16;

// The same of tiles: the sums of 32 rows.
constexpr int64_t TileScratch(int64_t tokens) {
  return (tokens + 2 * kTileTokenGroup - 1) / (2 * kTileTokenGroup) * (2 * kTileTokenGroup) * 32;
}

// Attention of a few consecutive tokens of one sequence, for the query heads that share one
// key/value head.
struct AttendArgs {
  const float* q = nullptr;  // [num_tokens, token_stride], at the first of the group's heads
  float* out = nullptr;      // the same layout
  int64_t token_stride = 0;  // num_heads * head_dim
  const int32_t* positions = nullptr;  // [num_tokens]
  int32_t num_tokens = 0;
  int32_t group = 0;  // query heads, contiguous
  int32_t head_dim = 0;
  const void* keys = nullptr;    // [num_blocks * block_size, slot_stride], at the head
  const void* values = nullptr;  // the same layout
  DType dtype = DType::kFloat32;
  int64_t slot_stride = 0;  // elements
  int32_t block_size = 0;
  const int32_t* block_table =
      nullptr;                 // only blocks that hold keys seen by one of the tokens are looked up
  int32_t sliding_window = 0;  // 0: none
  float* scratch = nullptr;    // [AttendScratch(...)]
};

// Key positions are taken in blocks of so many, counted from position 0.
constexpr int32_t kKeyBlock = 64;

// Floats of scratch that attend() wants for `rows` = num_tokens * group.
constexpr int64_t AttendScratch(int64_t rows, int64_t head_dim) {
  return rows * (kKeyBlock + 3 + (head_dim + 15) / 16 * 16);
}

struct KernelTable {
  // x: rows of float32; any w_dtype, widened exactly.
  void (*dot)(const DotArgs& args);
  // x: rows of bfloat16; w_dtype bfloat16. Null where the processor has no such product.
  void (*dot_bf16)(const DotArgs& args);
  // x: rows in tiles, the first of a group first; w_dtype bfloat16. Null where the processor has no
  // tiles, and so is to_tiles.
  void (*dot_tiles)(const DotArgs& args);
  // Writes columns [first, first + n) of a row in tiles, rounded to bfloat16; `first` is even, and
  // so is first + n unless it is cols. Rows lie in groups of kTileTokenGroup: pairs of columns,
  // each pair of all rows of the group side by side. `row` is the row's first pair. Behind the last
  // column stand zeros, to a multiple of 32. in: [n].
  void (*to_tiles)(const float* in, int64_t first, int64_t n, int64_t cols, void* row);
  // x: rows of integers; w_dtype packed.
  void (*dot_packed)(const DotArgs& args);
  // Writes columns [first, first + n) of a row of integers, first a multiple of 64: with p = cols
  // rounded up to a multiple of 64, int16 [p]; the scale of every 64, float [p / 64]; the sum of
  // every 32, int32 [p / 32]. Zeros stand from first + n to the next multiple of 64. in: [n]. What
  // is not finite makes the scale NaN.
  void (*to_integers)(const float* in, int64_t first, int64_t n, int64_t cols, void* row);
  // out[i] = in[i], exactly. in: [n] of `dtype`, not packed.
  void (*widen)(const void* in, DType dtype, int64_t n, float* out);
  // out[i] = in[i] rounded to bfloat16.
  void (*narrow)(const float* in, int64_t n, uint16_t* out);
  // The same, kept as float32. in and out may be the same.
  void (*round)(const float* in, int64_t n, float* out);
  // out[i] = silu(gate[i]) * up[i]. out may be gate.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // y[i] += scale * x[i].
  void (*add_scaled)(float scale, const float* x, int64_t n, float* y);
  // out = x / sqrt(mean(x^2) + eps) * weight. out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);
  void (*attend)(const AttendArgs& args);
};

extern const KernelTable kScalarKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512VnniKernels;
extern const KernelTable kAvx512Bf16Kernels;
extern const KernelTable kAmxKernels;

// REQUIRES: IsaSupported(isa).
const KernelTable& KernelsFor(Isa isa);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_KERNEL_TABLE_H_
