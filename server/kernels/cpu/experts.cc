// Two loops over all threads, whatever the number of experts. The first runs over pieces (expert,
// rows of w1 and w3, rows of the batch) and leaves silu(w1 x) * w3 x; the second over columns of
// the output, each piece adding the experts in ascending order to columns that no other piece
// touches. Tokens are gathered only where a kernel wants them side by side (GroupOf); the
// others take a pointer to each row of x.
#include "server/kernels/cpu/experts.h"

#include <algorithm>
#include <vector>

#include "server/kernels/cpu/scratch.h"
#include "server/kernels/packed.h"

namespace adamoe {
namespace {

// A piece of the first loop: rows [row, row_end) of w1 and w3 for batch rows [first, last) of an
// expert.
struct HiddenPiece {
  int32_t expert;
  int64_t row, row_end;
  int64_t first, last;
};

class ExpertRun {
 public:
  ExpertRun(const CpuContext& context, const ExpertWeights* experts, const Routing& routing,
            const float* x, int64_t num_tokens)
      : context_(context),
        experts_(experts),
        routing_(routing),
        num_tokens_(num_tokens),
        num_experts_(static_cast<int32_t>(routing.expert_begin.size()) - 1),
        hidden_size_(experts[0].w2.rows),
        intermediate_size_(experts[0].w1.rows),
        hidden_layout_(Form(experts[0].w2), intermediate_size_),
        places_(PlaceRows()),
        gathered_(GroupOf(Form(experts[0].w1)) > 1),
        input_(context, InputRows(x), hidden_size_) {}

  // Fills hidden_: what w2 is multiplied with, per batch row.
  void ComputeHidden() {
    hidden_ = static_cast<uint8_t*>(
        ThreadScratch(Scratch::kHidden, hidden_layout_.NumBytes(places_.back())));
    const std::vector<HiddenPiece> pieces = CutHidden();
    if (pieces.empty()) return;
    input_.Prepare(Form(experts_[0].w1));
    const HiddenPiece& piece = pieces.front();
    const int64_t macs =
        2 * hidden_size_ * (piece.row_end - piece.row) * (piece.last - piece.first);
    const int64_t num_pieces = static_cast<int64_t>(pieces.size());
    context_.pool->ParallelFor(num_pieces, GrainFor(num_pieces, macs),
                               [&](int64_t begin, int64_t end) {
                                 for (int64_t i = begin; i < end; ++i) RunHidden(pieces[i]);
                               });
  }

  // Adds weight * w2 hidden to out, which holds zeros, and counts the rows.
  void ComputeOutput(float* out, uint8_t* executed) {
    const int64_t rows = static_cast<int64_t>(routing_.row_token.size());
    const int64_t width =
        TilingFor(context_, Form(experts_[0].w2), experts_[0].w2, rows).panel_rows;
    const int64_t num_pieces = CeilDiv(hidden_size_, width);
    context_.pool->ParallelFor(num_pieces, GrainFor(num_pieces, width * rows * intermediate_size_),
                               [&](int64_t begin, int64_t end) {
                                 for (int64_t i = begin; i < end; ++i) {
                                   RunOutput(i * width, std::min((i + 1) * width, hidden_size_),
                                             out, executed);
                                 }
                               });
  }

 private:
  int64_t NumRows(int32_t expert) const {
    return routing_.expert_begin[expert + 1] - routing_.expert_begin[expert];
  }

  InputForm Form(const Matrix& w) const {
    return FormFor(context_, w.dtype, context_.precision, num_tokens_);
  }

  // Where an expert's batch rows begin among places, of which each expert has whole groups:
  // [n + 1].
  std::vector<int64_t> PlaceRows() const {
    std::vector<int64_t> places = {0};
    for (int32_t e = 0; e < num_experts_; ++e) {
      places.push_back(places.back() + CeilDiv(NumRows(e), kTileTokenGroup) * kTileTokenGroup);
    }
    return places;
  }

  int64_t PlaceOf(int32_t expert, int64_t row) const {
    return places_[expert] + row - routing_.expert_begin[expert];
  }

  // The tokens, or where they are gathered, the token at each place.
  std::vector<const float*> InputRows(const float* x) const {
    std::vector<const float*> rows(gathered_ ? places_.back() : num_tokens_);
    if (!gathered_) {
      for (int64_t t = 0; t < num_tokens_; ++t) rows[t] = x + t * hidden_size_;
      return rows;
    }
    for (int32_t e = 0; e < num_experts_; ++e) {
      for (int64_t b = routing_.expert_begin[e]; b < routing_.expert_begin[e + 1]; ++b) {
        rows[PlaceOf(e, b)] = x + routing_.row_token[b] * hidden_size_;
      }
    }
    return rows;
  }

  uint8_t* HiddenRow(int32_t expert, int64_t row) const {
    return hidden_layout_.RowIn(hidden_, PlaceOf(expert, row));
  }

  std::vector<HiddenPiece> CutHidden() const {
    std::vector<HiddenPiece> pieces;
    for (int32_t e = 0; e < num_experts_; ++e) {
      if (NumRows(e) == 0) continue;
      const ProductTiling tiling =
          TilingFor(context_, Form(experts_[e].w1), experts_[e].w1, NumRows(e));
      // Outputs that share a scale as w2's inputs are made by one piece.
      const bool packed = Form(experts_[e].w2) == InputForm::kIntegers;
      const int64_t step = packed ? kPackedCols : 1;
      const int64_t num_rows = CeilDiv(tiling.panel_rows, step) * step;
      for (int64_t row = 0; row < intermediate_size_; row += num_rows) {
        const int64_t row_end = std::min(row + num_rows, intermediate_size_);
        for (int64_t b = routing_.expert_begin[e]; b < routing_.expert_begin[e + 1];
             b += tiling.token_block) {
          const int64_t last =
              std::min<int64_t>(b + tiling.token_block, routing_.expert_begin[e + 1]);
          pieces.push_back({e, row, row_end, b, last});
        }
      }
    }
    return pieces;
  }

  void Project(const Matrix& w, const HiddenPiece& piece, float* y) const {
    const InputForm form = Form(w);
    std::vector<const void*> x(piece.last - piece.first);
    for (int64_t b = piece.first; b < piece.last; ++b) {
      x[b - piece.first] =
          input_.rows(form)[gathered_ ? PlaceOf(piece.expert, b) : routing_.row_token[b]];
    }
    MultiplyPanel(context_, w, piece.row, piece.row_end, form, x.data(), piece.last - piece.first,
                  y, piece.row_end - piece.row);
  }

  void RunHidden(const HiddenPiece& piece) const {
    const ExpertWeights& expert = experts_[piece.expert];
    const int64_t width = piece.row_end - piece.row;
    const int64_t size = width * (piece.last - piece.first);
    float* gate = ThreadFloats(Scratch::kGate, size);
    float* up = ThreadFloats(Scratch::kUp, size);
    Project(expert.w1, piece, gate);
    Project(expert.w3, piece, up);
    context_.kernels->silu_mul(gate, up, size, gate);
    const InputForm form = Form(expert.w2);
    for (int64_t b = piece.first; b < piece.last; ++b) {
      Convert(context_, form, gate + (b - piece.first) * width, piece.row, width,
              intermediate_size_, HiddenRow(piece.expert, b));
    }
  }

  // Columns [begin, end) of the output, all experts.
  void RunOutput(int64_t begin, int64_t end, float* out, uint8_t* executed) const {
    const int64_t width = end - begin;
    std::vector<const void*> x;
    for (int32_t e = 0; e < num_experts_; ++e) {
      const int64_t rows = NumRows(e);
      if (rows == 0) continue;
      const int64_t first = routing_.expert_begin[e];
      x.resize(rows);
      for (int64_t i = 0; i < rows; ++i) x[i] = HiddenRow(e, first + i);
      float* y = ThreadFloats(Scratch::kGate, rows * width);
      const Matrix& w2 = experts_[e].w2;
      MultiplyPanel(context_, w2, begin, end, Form(w2), x.data(), rows, y, width);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t token = routing_.row_token[first + i];
        context_.kernels->add_scaled(routing_.row_weight[first + i], y + i * width, width,
                                     out + token * hidden_size_ + begin);
        if (begin == 0) ++executed[token];
      }
    }
  }

  const CpuContext& context_;
  const ExpertWeights* experts_;
  const Routing& routing_;
  const int64_t num_tokens_;
  const int32_t num_experts_;
  const int64_t hidden_size_;
  const int64_t intermediate_size_;
  const RowLayout hidden_layout_;
  const std::vector<int64_t> places_;
  const bool gathered_;  // tokens are taken from places, not as they come
  ProductInput input_;
  uint8_t* hidden_ = nullptr;  // what w2 is multiplied with, by place
};

}  // namespace

void RunExperts(const CpuContext& context, const ExpertWeights* experts, const Routing& routing,
                const float* x, int64_t num_tokens, float* out, uint8_t* executed) {
  if (num_tokens <= 0) return;
  const int64_t hidden_size = experts[0].w2.rows;
  std::fill(out, out + num_tokens * hidden_size, 0.0f);
  if (routing.row_token.empty()) return;
  ExpertRun run(context, experts, routing, x, num_tokens);
  run.ComputeHidden();
  run.ComputeOutput(out, executed);
}

}  // namespace adamoe
