// Products of weight rows with rows of activations: how the inputs are prepared and the work is
// cut, on top of one instruction set's dot kernels. Linear and Experts share it.
#ifndef ADAMOE_SERVER_KERNELS_CPU_PRODUCT_H_
#define ADAMOE_SERVER_KERNELS_CPU_PRODUCT_H_

#include <cstdint>
#include <vector>

#include "server/base/thread_pool.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/ops.h"

namespace adamoe {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What a CpuOps hands to its parts. Immutable.
struct CpuContext {
  ThreadPool* pool;
  const KernelTable* kernels;
  Precision precision;
};

// The form of the activations a matrix is multiplied with.
enum class InputForm : uint8_t {
  kAsIs,      // float32
  kRounded,   // float32 holding bfloat16 values
  kBFloat16,  // bfloat16
  kTiles,     // bfloat16, the rows of a group side by side (kernel_table.h)
  kIntegers   // 16 bits with scales and sums (kernel_table.h)
};

// `tokens`: how many share the operation. Tiles pay from a few on.
InputForm FormFor(const CpuContext& context, DType w_dtype, Precision precision, int64_t tokens);

// Rows of a form that lie together: a product takes all of them or none but those at the end, and
// starts with the first.
constexpr int64_t GroupOf(InputForm form) {
  return form == InputForm::kTiles ? kTileTokenGroup : 1;
}

// Where rows of `cols` activations lie in one buffer, which is aligned to a cache line.
class RowLayout {
 public:
  RowLayout(InputForm form, int64_t cols);

  int64_t NumBytes(int64_t num_rows) const { return CeilDiv(num_rows, group_) * group_bytes_; }
  uint8_t* RowIn(uint8_t* buffer, int64_t row) const {
    return buffer + row / group_ * group_bytes_ + row % group_ * kBytesApart;
  }

 private:
  static constexpr int64_t kBytesApart = 4;  // rows of a group

  int64_t group_;
  int64_t group_bytes_;
};

// Writes columns [first, first + n) of a row of `cols` activations in a form. x: [n]. Integers:
// first is a multiple of 64, and so is first + n unless it is cols; tiles: they are even.
void Convert(const CpuContext& context, InputForm form, const float* x, int64_t first, int64_t n,
             int64_t cols, void* row);

// Rows of activations in every form that was asked for. Copies lie in the scratch of the
// thread that makes them: one ProductInput at a time.
class ProductInput {
 public:
  // x: [num_rows] rows of [cols], null for one that is of no use; must outlive this.
  ProductInput(const CpuContext& context, std::vector<const float*> x, int64_t cols);

  // Makes the form available. Not thread-safe.
  void Prepare(InputForm form);

  // The start of each row, [num_rows]. REQUIRES: prepared.
  const void* const* rows(InputForm form) const { return rows_[static_cast<int>(form)].data(); }

 private:
  const CpuContext& context_;
  const std::vector<const float*> x_;
  const int64_t cols_;
  std::vector<const void*> rows_[5];  // by form; empty until prepared
};

// How a product is cut into pieces of work: panels of rows that stay in a core's cache, times
// blocks of tokens.
struct ProductTiling {
  int64_t panel_rows;
  int64_t token_block;
};

ProductTiling TilingFor(const CpuContext& context, InputForm form, const Matrix& w, int64_t tokens);

// Pieces to hand to a thread at a time, so that each is worth handing over. `macs`: multiply-adds
// of one piece.
int64_t GrainFor(int64_t num_pieces, int64_t macs);

// y[t * y_stride + r - begin] for rows [begin, end) of w and `tokens` rows x in `form`.
void MultiplyPanel(const CpuContext& context, const Matrix& w, int64_t begin, int64_t end,
                   InputForm form, const void* const* x, int64_t tokens, float* y,
                   int64_t y_stride);

// y = x W^T over all threads.
void Multiply(const CpuContext& context, Precision precision, const Matrix& w, const float* x,
              int64_t tokens, float* y);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_PRODUCT_H_
