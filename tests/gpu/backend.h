// Which GPU a test of the CUDA backend runs on: a real one (backend_cuda.cc), or host memory with
// the kernels as plain loops (backend_host.cc), where the tests prove themselves and the host's
// side of the backend.
#ifndef ADAMOE_TESTS_GPU_BACKEND_H_
#define ADAMOE_TESTS_GPU_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/cuda/cuda_model.h"
#include "server/cuda/gpu.h"
#include "server/weights/mixtral_weights.h"
#include "tests/gpu/routing_probe.h"

namespace adamoe {

// False where there is no GPU: tests then say so and skip.
bool HasGpu();

absl::StatusOr<std::unique_ptr<cuda::Gpu>> OpenGpu();

// A model of `weights` on it, uploaded as the plugin does.
absl::StatusOr<std::unique_ptr<cuda::CudaModel>> MakeGpuModel(
    const MixtralWeights& weights, const cuda::CudaModel::Options& options);

// The CPU's model, in bfloat16 as the GPU's or in float32; any KV cache size. `probe`: in its
// operations, outlives it; may be null.
std::unique_ptr<Model> MakeCpuModel(const MixtralWeights& weights, Precision precision,
                                    const cuda::CudaModel::Options& options,
                                    RoutingProbe* probe = nullptr);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_BACKEND_H_
