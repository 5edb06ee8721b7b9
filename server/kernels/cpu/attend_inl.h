// Attention over the paged cache: one softmax per token and query head, computed as the keys stream
// by.
//
// Keys are taken in blocks of kKeyBlock positions counted from position 0. Per block and row (one
// token, one head): dot products with the block's keys, the new maximum, the old sums scaled to it,
// then the block's values added in order of position. A row's operations follow from its own
// position alone. Included only by kernels_<isa>.cc (see simd_inl.h).
#ifndef ADAMOE_SERVER_KERNELS_CPU_ATTEND_INL_H_
#define ADAMOE_SERVER_KERNELS_CPU_ATTEND_INL_H_

#include "server/kernels/cpu/dot_inl.h"
#include "server/kernels/cpu/kernel_table.h"
#include "server/kernels/cpu/simd_inl.h"

namespace adamoe {
namespace {

// Rows of one tile of the values' sum, and vectors of a row in it.
#if defined(__AVX512F__)
constexpr int kValueRows = 4;
#else
constexpr int kValueRows = 2;
#endif
constexpr int kValueVectors = 4;

constexpr int kMaxQueryPointers = 64;

// The positions a token sees are [begin, end).
struct Range {
  int32_t begin;
  int32_t end;
};

Range Seen(const AttendArgs& args, int32_t token) {
  const int32_t position = args.positions[token];
  const int32_t begin = args.sliding_window > 0 ? position - args.sliding_window + 1 : 0;
  return {begin > 0 ? begin : 0, position + 1};
}

Range Intersect(Range a, Range b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

// The state of all rows, row = token * group + head, in the caller's scratch.
struct Softmax {
  int64_t rows;
  int64_t width;  // head_dim rounded up to whole vectors
  float* scores;  // [rows, kKeyBlock]; after the softmax step, the weights of the values
  float* max;     // [rows]
  float* sum;     // [rows]
  float* scale;   // [rows], what the sums so far are to be multiplied by
  float* values;  // [rows, width]
};

Softmax Carve(const AttendArgs& args) {
  Softmax s;
  s.rows = static_cast<int64_t>(args.num_tokens) * args.group;
  s.width = (args.head_dim + 15) / 16 * 16;
  s.scores = args.scratch;
  s.values = s.scores + s.rows * kKeyBlock;
  s.max = s.values + s.rows * s.width;
  s.sum = s.max + s.rows;
  s.scale = s.sum + s.rows;
  for (int64_t r = 0; r < s.rows; ++r) s.max[r] = -__builtin_inff();
  for (int64_t r = 0; r < s.rows; ++r) s.sum[r] = 0.0f;
  for (int64_t i = 0; i < s.rows * s.width; ++i) s.values[i] = 0.0f;
  return s;
}

int64_t ElementOffset(const AttendArgs& args, int32_t position) {
  const int64_t block = args.block_table[position / args.block_size];
  return (block * args.block_size + position % args.block_size) * args.slot_stride;
}

template <class Row>
const typename Row::Element* At(const void* base, int64_t offset) {
  return static_cast<const typename Row::Element*>(base) + offset;
}

// scores[row][p - first] = q[row] . key[p] for p in `range`; one product per cache block and batch
// of rows.
template <class Row>
void Score(const AttendArgs& args, Range range, int32_t first, const Softmax& s) {
  const void* x[kMaxQueryPointers];
  for (int64_t r0 = 0; r0 < s.rows; r0 += kMaxQueryPointers) {
    const int64_t rows = s.rows - r0 < kMaxQueryPointers ? s.rows - r0 : kMaxQueryPointers;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = (r0 + r) / args.group;
      x[r] = args.q + token * args.token_stride + (r0 + r) % args.group * args.head_dim;
    }
    for (int32_t p = range.begin; p < range.end;) {
      const int32_t left = args.block_size - p % args.block_size;
      const int32_t n = range.end - p < left ? range.end - p : left;
      DotTiled<WidenedDot<Row>>({.w = At<Row>(args.keys, ElementOffset(args, p)),
                                 .w_dtype = args.dtype,
                                 .w_stride = args.slot_stride,
                                 .rows = n,
                                 .cols = args.head_dim,
                                 .x = x,
                                 .tokens = rows,
                                 .y = s.scores + r0 * kKeyBlock + (p - first),
                                 .y_stride = kKeyBlock});
      p += n;
    }
  }
}

// Turns one row's scores into weights exp(score * factor - max), exactly 0 outside [begin, end),
// and updates its maximum and sum.
void Weigh(const Softmax& s, int64_t row, Range seen, float factor) {
  float* scores = s.scores + row * kKeyBlock;
  I lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  F largest = Splat(-__builtin_inff());
  for (int i = 0; i < kKeyBlock; i += kLanes) {
    const I at = lane + i;
    const F score = Load(scores + i) * factor;
    const F masked = (at >= seen.begin) & (at < seen.end) ? score : Splat(-__builtin_inff());
    largest = Max(masked, largest);
    Store(masked, scores + i);
  }
  const float block_max = MaxLane(largest);
  const float new_max = block_max > s.max[row] ? block_max : s.max[row];
  F sum = {};
  for (int i = 0; i < kKeyBlock; i += kLanes) {
    const I at = lane + i;
    const F weight = Exp(Load(scores + i) - new_max);
    const F masked = (at >= seen.begin) & (at < seen.end) ? weight : F{};
    sum += masked;
    Store(masked, scores + i);
  }
  s.scale[row] = Exp(Splat(s.max[row] - new_max))[0];
  s.sum[row] = s.sum[row] * s.scale[row] + Sum(sum);
  s.max[row] = new_max;
}

// values[row] = values[row] * scale[row] + sum over p in `range` of weight[row][p] * value[p], for
// R rows and C vectors of columns from `column` on; `last` < kLanes reads only so many columns (C =
// 1).
template <class Row, int R, int C>
void AddValueTile(const Softmax& s, int64_t row, int64_t column, int64_t last, Range range,
                  int32_t first, const typename Row::Element* const* value) {
  F sum[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      sum[r][c] = Load(s.values + (row + r) * s.width + column + c * kLanes) * s.scale[row + r];
    }
  }
  for (int32_t p = range.begin - first; p < range.end - first; ++p) {
    const typename Row::Element* v = value[p] + column;
    F vp[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c)
      vp[c] = last < kLanes ? Row::ReadFirst(v, last) : Row::Read(v + c * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F weight = Splat(s.scores[(row + r) * kKeyBlock + p]);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[r][c] = Fma(weight, vp[c], sum[r][c]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c)
      Store(sum[r][c], s.values + (row + r) * s.width + column + c * kLanes);
  }
}

template <class Row, int R>
void AddValueRows(const Softmax& s, int64_t row, int64_t cols, Range range, int32_t first,
                  const typename Row::Element* const* value) {
  constexpr int64_t kWide = kValueVectors * kLanes;
  int64_t c = 0;
  for (; c + kWide <= cols; c += kWide)
    AddValueTile<Row, R, kValueVectors>(s, row, c, kLanes, range, first, value);
  for (; c + kLanes <= cols; c += kLanes)
    AddValueTile<Row, R, 1>(s, row, c, kLanes, range, first, value);
  if (c < cols) AddValueTile<Row, R, 1>(s, row, c, cols - c, range, first, value);
}

template <class Row>
void AddValues(const Softmax& s, int64_t begin, int64_t end, int64_t cols, Range range,
               int32_t first, const typename Row::Element* const* value) {
  int64_t row = begin;
  for (; row + kValueRows <= end; row += kValueRows) {
    AddValueRows<Row, kValueRows>(s, row, cols, range, first, value);
  }
  for (; row < end; ++row) AddValueRows<Row, 1>(s, row, cols, range, first, value);
}

// One block of keys and values, `all` of it seen by some token.
template <class Row>
void AttendBlock(const AttendArgs& args, Range all, int32_t first, float factor, const Softmax& s) {
  Score<Row>(args, all, first, s);
  const typename Row::Element* value[kKeyBlock];
  for (int32_t p = all.begin; p < all.end; ++p)
    value[p - first] = At<Row>(args.values, ElementOffset(args, p));
  bool shared = true;
  for (int32_t t = 0; t < args.num_tokens; ++t) {
    const Range seen = Intersect(Seen(args, t), all);
    shared = shared && seen.begin == all.begin && seen.end == all.end;
    if (seen.begin >= seen.end) continue;
    for (int32_t g = 0; g < args.group; ++g) {
      Weigh(s, t * args.group + g, {seen.begin - first, seen.end - first}, factor);
    }
  }
  if (shared) return AddValues<Row>(s, 0, s.rows, args.head_dim, all, first, value);
  for (int32_t t = 0; t < args.num_tokens; ++t) {
    const Range seen = Intersect(Seen(args, t), all);
    if (seen.begin >= seen.end) continue;
    AddValues<Row>(s, t * args.group, (t + 1) * args.group, args.head_dim, seen, first, value);
  }
}

template <class Row>
void AttendAll(const AttendArgs& args) {
  const Softmax s = Carve(args);
  Range all = Seen(args, 0);
  for (int32_t t = 1; t < args.num_tokens; ++t) {
    const Range seen = Seen(args, t);
    if (seen.begin < all.begin) all.begin = seen.begin;
    if (seen.end > all.end) all.end = seen.end;
  }
  const float factor = 1.0f / __builtin_sqrtf(static_cast<float>(args.head_dim));
  for (int32_t first = all.begin / kKeyBlock * kKeyBlock; first < all.end; first += kKeyBlock) {
    AttendBlock<Row>(args, Intersect(all, {first, first + kKeyBlock}), first, factor, s);
  }
  for (int64_t r = 0; r < s.rows; ++r) {
    float* out = args.out + r / args.group * args.token_stride + r % args.group * args.head_dim;
    for (int64_t i = 0; i < args.head_dim; ++i) out[i] = s.values[r * s.width + i] / s.sum[r];
  }
}

void Attend(const AttendArgs& args) {
  if (args.dtype == DType::kFloat32) return AttendAll<F32Row>(args);
  AttendAll<Bf16Row>(args);
}

}  // namespace
}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_ATTEND_INL_H_
