#include "server/kernels/cuda/dense_linear.h"

#include <cublasLt.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe::cuda {
namespace {

// cuBLASLt promises its best algorithms where pointers are this aligned.
constexpr uint32_t kPointerAlignment = 16;

absl::Status Check(cublasStatus_t status, absl::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cuBLASLt, ", what, ": ", cublasLtGetStatusString(status)));
}

// An object of cuBLASLt that is destroyed by a function of its own.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (handle_ != nullptr) kDestroy(handle_);
  }
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Handle get() const { return handle_; }
  Handle* address() { return &handle_; }

 private:
  Handle handle_ = nullptr;
};

using LtHandle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using MatmulDesc = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// What a shape needs, found once.
struct Plan {
  MatmulDesc desc;
  Layout w;  // column major, as cuBLASLt reads: w transposed, [inputs, outputs]
  Layout x;  // [inputs, num_rows]
  Layout y;  // [outputs, num_rows]
  cublasLtMatmulAlgo_t algorithm = {};
};

using Key = std::tuple<int32_t, int32_t, int32_t, DenseLinear::Output>;

std::string Name(const DenseLinear::Product& product) {
  return absl::StrCat("[", product.num_rows, ", ", product.inputs, "] x [", product.outputs, ", ",
                      product.inputs, "]^T");
}

class CublasLinear : public DenseLinear {
 public:
  CublasLinear(LtHandle handle, void* workspace)
      : handle_(std::move(handle)), workspace_(workspace) {}

  absl::Status Run(const Product& product, cudaStream_t stream) override {
    if (product.num_rows == 0) return absl::OkStatus();
    const Key key(product.num_rows, product.inputs, product.outputs, product.output);
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      ASSIGN_OR_RETURN(Plan plan, MakePlan(product));
      found = plans_.emplace(key, std::move(plan)).first;
    }
    const Plan& plan = found->second;
    const float one = 1.0f;
    const float beta = product.output == Output::kFloat32Add ? 1.0f : 0.0f;
    return Check(cublasLtMatmul(handle_.get(), plan.desc.get(), &one, product.w, plan.w.get(),
                                product.x, plan.x.get(), &beta, product.y, plan.y.get(), product.y,
                                plan.y.get(), &plan.algorithm, workspace_, kWorkspaceBytes, stream),
                 Name(product));
  }

 private:
  absl::StatusOr<Plan> MakePlan(const Product& product) {
    const std::string name = Name(product);
    const uint64_t rows = static_cast<uint64_t>(product.num_rows);
    const uint64_t inputs = static_cast<uint64_t>(product.inputs);
    const uint64_t outputs = static_cast<uint64_t>(product.outputs);
    const cudaDataType_t y_type = product.output == Output::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
    Plan plan;
    RETURN_IF_ERROR(
        Check(cublasLtMatmulDescCreate(plan.desc.address(), CUBLAS_COMPUTE_32F, CUDA_R_32F), name));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    RETURN_IF_ERROR(
        Check(cublasLtMatmulDescSetAttribute(plan.desc.get(), CUBLASLT_MATMUL_DESC_TRANSA,
                                             &transposed, sizeof(transposed)),
              name));
    const auto layout = [&](Layout* out, cudaDataType_t type, uint64_t height, uint64_t width) {
      return Check(cublasLtMatrixLayoutCreate(out->address(), type, height, width,
                                              static_cast<int64_t>(height)),
                   name);
    };
    RETURN_IF_ERROR(layout(&plan.w, CUDA_R_16BF, inputs, outputs));
    RETURN_IF_ERROR(layout(&plan.x, CUDA_R_16BF, inputs, rows));
    RETURN_IF_ERROR(layout(&plan.y, y_type, outputs, rows));
    RETURN_IF_ERROR(Search(name, &plan));
    return plan;
  }

  absl::Status Search(const std::string& name, Plan* plan) {
    Preference preference;
    RETURN_IF_ERROR(Check(cublasLtMatmulPreferenceCreate(preference.address()), name));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return Check(
          cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
          name);
    };
    RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes}));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      RETURN_IF_ERROR(set(attribute, kPointerAlignment));
    }
    cublasLtMatmulHeuristicResult_t result = {};
    int num_results = 0;
    RETURN_IF_ERROR(
        Check(cublasLtMatmulAlgoGetHeuristic(handle_.get(), plan->desc.get(), plan->w.get(),
                                             plan->x.get(), plan->y.get(), plan->y.get(),
                                             preference.get(), 1, &result, &num_results),
              name));
    if (num_results == 0) {
      return absl::InternalError(absl::StrCat("cuBLASLt has no algorithm for ", name));
    }
    plan->algorithm = result.algo;
    return absl::OkStatus();
  }

  const LtHandle handle_;
  void* const workspace_;
  std::map<Key, Plan> plans_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DenseLinear>> DenseLinear::Create(void* workspace) {
  LtHandle handle;
  RETURN_IF_ERROR(Check(cublasLtCreate(handle.address()), "creating its handle"));
  return std::make_unique<CublasLinear>(std::move(handle), workspace);
}

}  // namespace adamoe::cuda
