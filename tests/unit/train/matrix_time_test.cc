#include "train/matrix_time.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace adamoe {
namespace {

TEST(MatrixTimeTest, CountsProductsAndNothingElse) {
  EXPECT_EQ(MatrixProductSeconds(), 0);
  const at::Tensor x = at::ones({256, 256});
  at::Tensor sum = x;
  for (int i = 0; i < 10; ++i) sum = at::silu(sum + x);
  EXPECT_EQ(MatrixProductSeconds(), 0);
  const at::Tensor batch = x.view({4, 64, 256});
  double before = 0;
  for (const auto& product :
       {+[](const at::Tensor&x, const at::Tensor&) { return at::mm(x, x); },
        +[](const at::Tensor&x, const at::Tensor&) { return at::linear(x, x); },
        +[](const at::Tensor&x, const at::Tensor&) { return at::linear(x, x, x[0]); },
        +[](const at::Tensor&x, const at::Tensor&batch) { return at::matmul(batch, x); },
        +[](const at::Tensor&, const at::Tensor&batch) {
          return at::bmm(batch, batch.transpose(1, 2));
        }}) {
    product(x, batch);
    EXPECT_GT(MatrixProductSeconds(), before);
    before = MatrixProductSeconds();
  }
}

}  // namespace
}  // namespace adamoe
