#include "tests/gpu/backend.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "server/base/status_macros.h"
#include "server/base/thread_pool.h"
#include "server/cuda/gpu_staging.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/model/mixtral_model.h"

namespace adamoe {

absl::StatusOr<std::unique_ptr<cuda::CudaModel>> MakeGpuModel(
    const MixtralWeights& weights, const cuda::CudaModel::Options& options) {
  ASSIGN_OR_RETURN(auto gpu, OpenGpu());
  const auto fill = [&weights](cuda::Gpu& on, std::byte* memory) {
    return cuda::UploadToGpu(weights, on, memory);
  };
  return cuda::CudaModel::Create(std::move(gpu), weights.config, fill, options);
}

std::unique_ptr<Model> MakeCpuModel(const MixtralWeights& weights, Precision precision,
                                    const cuda::CudaModel::Options& options, RoutingProbe* probe) {
  static ThreadPool* const pool =
      new ThreadPool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  // Rounds in whatever instruction set this processor has.
  auto ops = CreateCpuOps({.pool = pool, .precision = precision, .isa = BestIsa()});
  if (probe != nullptr) ops = probe->Wrap(std::move(ops));
  auto model = MixtralModel::Create(
      weights, std::move(ops),
      {.kv_cache_tokens = options.kv_cache_tokens, .block_size = options.block_size});
  return *std::move(model);
}

}  // namespace adamoe
