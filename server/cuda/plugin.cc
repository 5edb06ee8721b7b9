// libadamoe_cuda.so, as the server opens it.
#include <cstddef>
#include <memory>
#include <utility>

#include "server/base/status_macros.h"
#include "server/cuda/cuda_gpu.h"
#include "server/cuda/cuda_model.h"
#include "server/cuda/gpu_staging.h"
#include "server/device/device_plugin.h"

namespace adamoe::cuda {
namespace {

absl::StatusOr<std::unique_ptr<Model>> CreateModel(const MixtralWeights& weights,
                                                   const DeviceModelOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Gpu> gpu, OpenCudaGpu(options.device));
  const auto fill = [&weights](Gpu& on, std::byte* memory) {
    return UploadToGpu(weights, on, memory);
  };
  return CudaModel::Create(std::move(gpu), weights.config, fill,
                           {.kv_cache_tokens = options.kv_cache_tokens,
                            .block_size = options.block_size,
                            .max_batch_tokens = options.max_batch_tokens,
                            .max_sequences = options.max_sequences});
}

}  // namespace
}  // namespace adamoe::cuda

extern "C" const adamoe::DevicePlugin* adamoe_device_plugin() {
  static constexpr adamoe::DevicePlugin kPlugin{
      adamoe::kDevicePluginBuild, adamoe::kDevicePluginLayout, adamoe::cuda::CreateModel};
  return &kPlugin;
}
