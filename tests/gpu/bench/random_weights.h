// Weights of a model made on the device: no file, and no time to read one.
#ifndef ADAMOE_TESTS_GPU_BENCH_RANDOM_WEIGHTS_H_
#define ADAMOE_TESTS_GPU_BENCH_RANDOM_WEIGHTS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "server/cuda/gpu.h"
#include "server/weights/model_config.h"

namespace adamoe {

// Matrices that keep the scale of what they multiply, norms of 1 and random routers, so that
// experts are picked about evenly; laid out as cuda::LayOutWeights says.
absl::Status FillRandomWeights(const ModelConfig& config, cuda::Gpu& gpu, std::byte* memory);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_BENCH_RANDOM_WEIGHTS_H_
