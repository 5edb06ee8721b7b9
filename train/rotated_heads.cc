#include "train/rotated_heads.h"

#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "train/vector_math.h"

namespace adamoe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Sizes {
  int64_t batch, length, heads, kv_heads, half;  // half: head_dim / 2
};

// One position's heads at a time. qkv: [batch, length, heads + 2 kv_heads, 2 half]; q, k, v:
// [batch, length, heads, 2 half].
template <typename T>
ADAMOE_FOR_EACH_ISA void Forward(const T* qkv, const float* cos, const float* sin,
                                 const Sizes sizes, Wide<T>* q, Wide<T>* k, Wide<T>* v) {
  const int64_t half = sizes.half, dim = 2 * half, group = sizes.heads / sizes.kv_heads;
  for (int64_t token = 0; token < sizes.batch * sizes.length; ++token) {
    const float* c = cos + token % sizes.length * half;
    const float* s = sin + token % sizes.length * half;
    for (int64_t head = 0; head < sizes.heads + sizes.kv_heads; ++head, qkv += dim) {
      const bool is_query = head < sizes.heads;
      Wide<T>* out = is_query ? q : k;
      for (int64_t i = 0; i < half; ++i) {
        const auto x = Load(qkv[i]), y = Load(qkv[half + i]);
        out[i] = x * c[i] - y * s[i];
        out[half + i] = y * c[i] + x * s[i];
      }
      if (is_query) {
        q += dim;
        continue;
      }
      for (int64_t copy = 1; copy < group; ++copy) std::copy_n(k, dim, k + copy * dim);
      k += group * dim;
    }
    for (int64_t head = 0; head < sizes.kv_heads; ++head, qkv += dim) {
      for (int64_t copy = 0; copy < group; ++copy, v += dim) {
        for (int64_t i = 0; i < dim; ++i) v[i] = Load(qkv[i]);
      }
    }
  }
}

// The adjoint: turns back, and sums over the repeated heads. Shapes as above.
template <typename T>
ADAMOE_FOR_EACH_ISA void Backward(const Wide<T>* q, const Wide<T>* k, const Wide<T>* v,
                                  const float* cos, const float* sin, const Sizes sizes, T* qkv) {
  const int64_t half = sizes.half, dim = 2 * half, group = sizes.heads / sizes.kv_heads;
  for (int64_t token = 0; token < sizes.batch * sizes.length; ++token) {
    const float* c = cos + token % sizes.length * half;
    const float* s = sin + token % sizes.length * half;
    for (int64_t head = 0; head < sizes.heads + sizes.kv_heads; ++head, qkv += dim) {
      const bool is_query = head < sizes.heads;
      const int64_t copies = is_query ? 1 : group;
      const Wide<T>* in = is_query ? q : k;
      for (int64_t i = 0; i < half; ++i) {
        Wide<T> x = 0, y = 0;
        for (int64_t copy = 0; copy < copies; ++copy) {
          x += in[copy * dim + i];
          y += in[copy * dim + half + i];
        }
        Store(x * c[i] + y * s[i], &qkv[i]);
        Store(y * c[i] - x * s[i], &qkv[half + i]);
      }
      (is_query ? q : k) += copies * dim;
    }
    for (int64_t head = 0; head < sizes.kv_heads; ++head, qkv += dim, v += group * dim) {
      for (int64_t i = 0; i < dim; ++i) {
        Wide<T> sum = 0;
        for (int64_t copy = 0; copy < group; ++copy) sum += v[copy * dim + i];
        Store(sum, &qkv[i]);
      }
    }
  }
}

struct RotatedHeadsFunction : torch::autograd::Function<RotatedHeadsFunction> {
  // All contiguous.
  static variable_list forward(AutogradContext* context, const Variable& qkv, int64_t heads,
                               int64_t kv_heads, const at::Tensor& cos, const at::Tensor& sin) {
    const Sizes sizes = {qkv.size(0), qkv.size(1), heads, kv_heads, cos.size(1)};
    const std::vector<int64_t> shape = {sizes.batch, sizes.length, heads, 2 * sizes.half};
    const at::TensorOptions options = qkv.options().dtype(WideType(qkv.scalar_type()));
    const variable_list out = {at::empty(shape, options), at::empty(shape, options),
                               at::empty(shape, options)};
    WithStorage(qkv.scalar_type(), [&](auto type) {
      using T = decltype(type);
      Forward(Elements<T>(qkv), Elements<float>(cos), Elements<float>(sin), sizes,
              MutableElements<Wide<T>>(out[0]), MutableElements<Wide<T>>(out[1]),
              MutableElements<Wide<T>>(out[2]));
    });
    context->save_for_backward({cos, sin});
    context->saved_data["kv_heads"] = kv_heads;
    context->saved_data["type"] = qkv.scalar_type();
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor q = grads[0].contiguous(), k = grads[1].contiguous(),
                     v = grads[2].contiguous();
    const Sizes sizes = {q.size(0), q.size(1), q.size(2), context->saved_data["kv_heads"].toInt(),
                         saved[0].size(1)};
    const int64_t width = (sizes.heads + 2 * sizes.kv_heads) * 2 * sizes.half;
    const at::ScalarType dtype = context->saved_data["type"].toScalarType();
    const at::Tensor grad = at::empty({sizes.batch, sizes.length, width}, q.options().dtype(dtype));
    WithStorage(dtype, [&](auto type) {
      using T = decltype(type);
      Backward(Elements<Wide<T>>(q), Elements<Wide<T>>(k), Elements<Wide<T>>(v),
               Elements<float>(saved[0]), Elements<float>(saved[1]), sizes,
               MutableElements<T>(grad));
    });
    return {grad, Variable(), Variable(), Variable(), Variable()};
  }
};

// The same in single operations, for other devices.
AttentionHeads PlainRotatedHeads(const at::Tensor& qkv, int64_t heads, int64_t kv_heads,
                                 const at::Tensor& cos, const at::Tensor& sin) {
  const at::Tensor by_head =
      qkv.to(WideType(qkv.scalar_type())).view({qkv.size(0), qkv.size(1), -1, 2 * cos.size(1)});
  const std::vector<at::Tensor> halves = by_head.narrow(2, 0, heads + kv_heads).chunk(2, -1);
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  const at::Tensor rotated =
      at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
  const int64_t group = heads / kv_heads;
  return {rotated.narrow(2, 0, heads),
          rotated.narrow(2, heads, kv_heads).repeat_interleave(group, 2),
          by_head.narrow(2, heads + kv_heads, kv_heads).repeat_interleave(group, 2)};
}

}  // namespace

AttentionHeads RotatedHeads(const at::Tensor& qkv, int64_t heads, int64_t kv_heads,
                            const at::Tensor& cos, const at::Tensor& sin) {
  AttentionHeads out;
  if (qkv.is_cpu()) {
    const variable_list apart = RotatedHeadsFunction::apply(qkv.contiguous(), heads, kv_heads,
                                                            cos.contiguous(), sin.contiguous());
    out = {apart[0], apart[1], apart[2]};
  } else {
    out = PlainRotatedHeads(qkv, heads, kv_heads, cos, sin);
  }
  for (at::Tensor* tensor : {&out.q, &out.k, &out.v}) *tensor = tensor->transpose(1, 2);
  return out;
}

}  // namespace adamoe
