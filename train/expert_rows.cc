#include "train/expert_rows.h"

#include <torch/csrc/autograd/custom_function.h>

#include "train/row_sums.h"

namespace adamoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct GatherRowsFunction : torch::autograd::Function<GatherRowsFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const at::Tensor& tokens,
                          const at::Tensor& row_of_pick) {
    context->save_for_backward({row_of_pick});
    return x.index_select(0, tokens);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    return {SumPickedRows(grads[0].contiguous(), saved[0], /*weights=*/{}), Variable(), Variable()};
  }
};

struct SumRowsFunction : torch::autograd::Function<SumRowsFunction> {
  static Variable forward(AutogradContext* context, const Variable& y, const at::Tensor& tokens,
                          const at::Tensor& row_of_pick) {
    context->save_for_backward({tokens});
    return SumPickedRows(y, row_of_pick, /*weights=*/{});
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    return {grads[0].index_select(0, context->get_saved_variables()[0]), Variable(), Variable()};
  }
};

struct SumWeightedRowsFunction : torch::autograd::Function<SumWeightedRowsFunction> {
  static Variable forward(AutogradContext* context, const Variable& y, const Variable& weights,
                          const at::Tensor& row_of_pick) {
    context->save_for_backward({y, weights, row_of_pick});
    return SumPickedRows(y, row_of_pick, weights);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const PickedRowGradients gradients =
        SumPickedRowsBackward(grads[0].contiguous(), saved[0], saved[2], saved[1]);
    return {gradients.y, gradients.weights, Variable()};
  }
};

}  // namespace

ExpertRows ArrangeRows(const at::Tensor& picks, int64_t num_experts, int64_t multiple) {
  const at::Tensor flat = picks.to(at::kCPU).contiguous().view(-1);
  const int64_t* expert_of = flat.const_data_ptr<int64_t>();
  const int64_t num_picks = flat.numel();
  ExpertRows rows;
  rows.counts.assign(num_experts, 0);
  for (int64_t i = 0; i < num_picks; ++i) {
    if (expert_of[i] < num_experts) ++rows.counts[expert_of[i]];
  }
  std::vector<int64_t> next_row;
  for (int64_t& count : rows.counts) {
    next_row.push_back(rows.num_rows);
    count = (count + multiple - 1) / multiple * multiple;
    rows.num_rows += count;
  }
  rows.picks = at::empty({rows.num_rows}, flat.options()).fill_(num_picks);
  rows.row_of_pick = at::empty_like(flat).fill_(rows.num_rows);
  int64_t* pick_of_row = rows.picks.mutable_data_ptr<int64_t>();
  int64_t* row_of_pick = rows.row_of_pick.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < num_picks; ++i) {
    if (expert_of[i] >= num_experts) continue;
    row_of_pick[i] = next_row[expert_of[i]]++;
    pick_of_row[row_of_pick[i]] = i;
  }
  rows.picks = rows.picks.to(picks.device());
  rows.row_of_pick = rows.row_of_pick.view(picks.sizes()).to(picks.device());
  rows.tokens = rows.picks.floor_divide(picks.size(1)).clamp_max_(picks.size(0) - 1);
  return rows;
}

at::Tensor GatherRows(const at::Tensor& x, const ExpertRows& rows) {
  return GatherRowsFunction::apply(x, rows.tokens, rows.row_of_pick);
}

at::Tensor GatherWeights(const at::Tensor& weights, const ExpertRows& rows) {
  return at::cat({weights.view(-1), at::zeros({1}, weights.options())}).index_select(0, rows.picks);
}

at::Tensor SumRows(const at::Tensor& y, const ExpertRows& rows) {
  return SumRowsFunction::apply(y.contiguous(), rows.tokens, rows.row_of_pick);
}

at::Tensor SumWeightedRows(const at::Tensor& y, const at::Tensor& weights, const ExpertRows& rows) {
  const at::ScalarType wide = y.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return SumWeightedRowsFunction::apply(y.contiguous(), weights.to(wide).contiguous(),
                                        rows.row_of_pick);
}

}  // namespace adamoe
