#include "server/kernels/cpu/product.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "server/kernels/cpu/scratch.h"
#include "server/kernels/packed.h"

namespace adamoe {
namespace {

constexpr int64_t kCacheLine = 64;
// The share of a core's second-level cache that a panel's partial sums take, a cache line each.
constexpr int64_t kSumBytes = 256 << 10;
// Rows of a panel: multiples of the widest tile.
constexpr int64_t RowStep(InputForm form) {
  return form == InputForm::kIntegers ? 2 * kPackedRows : form == InputForm::kTiles ? 32 : 8;
}
constexpr int64_t kMaxPanelRows = 1024;
// Tokens that share a panel's trip through the cache. Tiles read them again for every few rows:
// that many whose activations leave room in the second-level cache.
constexpr int64_t kTokenBlock = 128;
constexpr int64_t kTileTokenBytes = 1280 << 10;
// Tokens below which a block is not cut further.
constexpr int64_t kMinTokenBlock = 13;
// With so few tokens reading weights is what takes time, and rows are read faster than tiles.
constexpr int64_t kMostTokensByRow = 8;
// Pieces per thread that even out threads of unequal speed.
constexpr int64_t kPiecesPerThread = 4;
// Multiply-adds below which another thread costs more than it brings.
constexpr int64_t kMinMacs = 1 << 16;

int64_t MostTokensPerBlock(InputForm form, int64_t cols) {
  if (form != InputForm::kTiles) return kTokenBlock;
  return std::max<int64_t>(kTileTokenBytes / 2 / std::max<int64_t>(cols, 1), kTileTokenGroup);
}

// The tokens of each of so many blocks of about one size, whole groups.
int64_t TokensPerBlock(InputForm form, int64_t tokens, int64_t num_blocks) {
  const int64_t group = GroupOf(form);
  return CeilDiv(CeilDiv(std::max<int64_t>(tokens, 1), std::max<int64_t>(num_blocks, 1)), group) *
         group;
}

int64_t TokensPerBlock(InputForm form, const Matrix& w, int64_t tokens) {
  return TokensPerBlock(form, tokens, CeilDiv(tokens, MostTokensPerBlock(form, w.cols)));
}

// Points `args` at row `row` of w.
void PointAt(const Matrix& w, int64_t row, DotArgs& args) {
  const auto* data = static_cast<const uint8_t*>(w.data);
  if (IsPacked(w.dtype)) {
    const PackedSize size = PackedSizeOf(w.dtype, w.rows, w.cols);
    const int64_t block = row / kPackedRows;
    args.w = data + block * size.bytes_per_block;
    args.w_scales = w.scales + block * size.scales_per_block;
  } else {
    args.w = data + row * w.cols * static_cast<int64_t>(SizeOf(w.dtype));
  }
}

}  // namespace

InputForm FormFor(const CpuContext& context, DType w_dtype, Precision precision, int64_t tokens) {
  if (IsPacked(w_dtype)) return InputForm::kIntegers;
  if (precision == Precision::kFloat32) return InputForm::kAsIs;
  if (w_dtype != DType::kBFloat16) return InputForm::kRounded;
  if (context.kernels->dot_tiles != nullptr && tokens > kMostTokensByRow) return InputForm::kTiles;
  return context.kernels->dot_bf16 != nullptr ? InputForm::kBFloat16 : InputForm::kRounded;
}

RowLayout::RowLayout(InputForm form, int64_t cols) : group_(GroupOf(form)) {
  const int64_t padded = PaddedCols(cols);
  const int64_t used = form == InputForm::kTiles      ? 2 * padded * kTileTokenGroup
                       : form == InputForm::kBFloat16 ? 2 * cols
                       : form != InputForm::kIntegers
                           ? 4 * cols
                           : 2 * padded + padded / 64 * 4 + padded / 32 * 4;
  // Whole cache lines, one more than is used: rows whose distance is a multiple of 4 KiB, as those
  // of most models are, would share a few places of the first-level cache.
  group_bytes_ = CeilDiv(used, kCacheLine) * kCacheLine + kCacheLine;
}

void Convert(const CpuContext& context, InputForm form, const float* x, int64_t first, int64_t n,
             int64_t cols, void* row) {
  switch (form) {
    case InputForm::kAsIs:
      std::copy(x, x + n, static_cast<float*>(row) + first);
      return;
    case InputForm::kRounded:
      return context.kernels->round(x, n, static_cast<float*>(row) + first);
    case InputForm::kBFloat16:
      return context.kernels->narrow(x, n, static_cast<uint16_t*>(row) + first);
    case InputForm::kTiles:
      return context.kernels->to_tiles(x, first, n, cols, row);
    case InputForm::kIntegers:
      return context.kernels->to_integers(x, first, n, cols, row);
  }
}

ProductInput::ProductInput(const CpuContext& context, std::vector<const float*> x, int64_t cols)
    : context_(context), x_(std::move(x)), cols_(cols) {}

void ProductInput::Prepare(InputForm form) {
  std::vector<const void*>& rows = rows_[static_cast<int>(form)];
  if (!rows.empty()) return;
  rows.assign(x_.begin(), x_.end());
  const auto num_rows = static_cast<int64_t>(x_.size());
  if (form == InputForm::kAsIs && num_rows == 1) return;
  const Scratch use = form == InputForm::kIntegers   ? Scratch::kIntegers
                      : form == InputForm::kTiles    ? Scratch::kTiles
                      : form == InputForm::kBFloat16 ? Scratch::kBFloat16
                      : form == InputForm::kRounded  ? Scratch::kRounded
                                                     : Scratch::kAsIs;
  const RowLayout layout(form, cols_);
  auto* buffer = static_cast<uint8_t*>(ThreadScratch(use, layout.NumBytes(num_rows)));
  const int64_t group = GroupOf(form);
  const int64_t num_groups = CeilDiv(num_rows, group);
  context_.pool->ParallelFor(
      num_groups, GrainFor(num_groups, group * cols_), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * group; i < std::min(end * group, num_rows); ++i) {
          uint8_t* row = layout.RowIn(buffer, i);
          if (x_[i] != nullptr) Convert(context_, form, x_[i], 0, cols_, cols_, row);
          rows[i] = row;
        }
      });
}

ProductTiling TilingFor(const CpuContext& context, InputForm form, const Matrix& w,
                        int64_t tokens) {
  ProductTiling tiling;
  tiling.token_block = TokensPerBlock(form, w, tokens);
  const int64_t pieces = kPiecesPerThread * context.pool->num_threads();
  int64_t rows = std::min(w.rows * CeilDiv(tokens, tiling.token_block) / pieces, kMaxPanelRows);
  // Tiles keep their sums in registers.
  if (form != InputForm::kTiles) {
    rows = std::min(rows, kSumBytes / kCacheLine / tiling.token_block);
  }
  const int64_t step = RowStep(form);
  tiling.panel_rows = std::max(rows / step * step, step);
  const int64_t panels = CeilDiv(w.rows, tiling.panel_rows);
  if (panels < pieces) {
    const int64_t blocks =
        std::min(CeilDiv(pieces, std::max<int64_t>(panels, 1)), CeilDiv(tokens, kMinTokenBlock));
    tiling.token_block = std::min(tiling.token_block, TokensPerBlock(form, tokens, blocks));
  }
  return tiling;
}

int64_t GrainFor(int64_t num_pieces, int64_t macs) {
  return std::clamp<int64_t>(kMinMacs / std::max<int64_t>(macs, 1), 1,
                             std::max<int64_t>(num_pieces, 1));
}

void MultiplyPanel(const CpuContext& context, const Matrix& w, int64_t begin, int64_t end,
                   InputForm form, const void* const* x, int64_t tokens, float* y,
                   int64_t y_stride) {
  DotArgs args{.w_dtype = w.dtype,
               .w_stride = w.cols,
               .rows = end - begin,
               .cols = w.cols,
               .x = x,
               .tokens = tokens,
               .y = y,
               .y_stride = y_stride};
  PointAt(w, begin, args);
  if (form == InputForm::kIntegers) return context.kernels->dot_packed(args);
  const auto dot = form == InputForm::kTiles      ? context.kernels->dot_tiles
                   : form == InputForm::kBFloat16 ? context.kernels->dot_bf16
                                                  : context.kernels->dot;
  const int64_t block = TokensPerBlock(form, w, tokens);
  for (int64_t t = 0; t < tokens; t += block) {
    args.x = x + t;
    args.tokens = std::min(block, tokens - t);
    args.y = y + t * y_stride;
    args.scratch = ThreadFloats(Scratch::kSlice, form == InputForm::kTiles
                                                     ? TileScratch(args.tokens)
                                                     : DotScratch(args.rows, args.tokens));
    dot(args);
  }
}

void Multiply(const CpuContext& context, Precision precision, const Matrix& w, const float* x,
              int64_t tokens, float* y) {
  if (tokens <= 0 || w.rows <= 0) return;
  const InputForm form = FormFor(context, w.dtype, precision, tokens);
  std::vector<const float*> rows(tokens);
  for (int64_t t = 0; t < tokens; ++t) rows[t] = x + t * w.cols;
  ProductInput input(context, std::move(rows), w.cols);
  input.Prepare(form);
  const ProductTiling tiling = TilingFor(context, form, w, tokens);
  const int64_t num_blocks = CeilDiv(tokens, tiling.token_block);
  const int64_t num_pieces = num_blocks * CeilDiv(w.rows, tiling.panel_rows);
  const int64_t macs = tiling.panel_rows * tiling.token_block * w.cols;
  context.pool->ParallelFor(
      num_pieces, GrainFor(num_pieces, macs), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const int64_t row = i / num_blocks * tiling.panel_rows;
          const int64_t token = i % num_blocks * tiling.token_block;
          MultiplyPanel(context, w, row, std::min(row + tiling.panel_rows, w.rows), form,
                        input.rows(form) + token, std::min(tiling.token_block, tokens - token),
                        y + token * w.rows + row, w.rows);
        }
      });
}

}  // namespace adamoe
