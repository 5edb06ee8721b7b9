// DenseLinear as plain loops over host memory: cuBLASLt cannot run without a GPU.
#include "server/base/dtype.h"
#include "server/kernels/cuda/dense_linear.h"

namespace adamoe::cuda {
namespace {

class HostLinear : public DenseLinear {
 public:
  absl::Status Run(const Product& product, cudaStream_t) override {
    for (int64_t row = 0; row < product.num_rows; ++row) {
      const Bf16* const x = product.x + row * product.inputs;
      for (int64_t output = 0; output < product.outputs; ++output) {
        const Bf16* const w = product.w + output * product.inputs;
        float sum = 0.0f;
        for (int32_t i = 0; i < product.inputs; ++i)
          sum += FloatFromBf16(x[i]) * FloatFromBf16(w[i]);
        Store(product, row * product.outputs + output, sum);
      }
    }
    return absl::OkStatus();
  }

 private:
  static void Store(const Product& product, int64_t i, float value) {
    float* const y = static_cast<float*>(product.y);
    switch (product.output) {
      case Output::kBf16:
        static_cast<Bf16*>(product.y)[i] = Bf16FromFloat(value);
        break;
      case Output::kFloat32:
        y[i] = value;
        break;
      case Output::kFloat32Add:
        y[i] += value;
        break;
    }
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<DenseLinear>> DenseLinear::Create(void*) {
  return std::make_unique<HostLinear>();
}

}  // namespace adamoe::cuda
