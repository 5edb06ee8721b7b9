// What a GPU reaches at what it does best: the rates that rooflines are drawn from.
#ifndef ADAMOE_TESTS_GPU_BENCH_DEVICE_RATES_H_
#define ADAMOE_TESTS_GPU_BENCH_DEVICE_RATES_H_

#include "absl/status/statusor.h"
#include "server/cuda/gpu.h"
#include "tests/gpu/bench/roofline.h"

namespace adamoe {

// Bytes read and written by a copy of 4 GiB within the device, and a bfloat16 product of 8192^3 on
// random data. Takes 9 GiB of memory until `gpu` goes.
absl::StatusOr<DeviceRates> MeasureRates(cuda::Gpu& gpu);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_BENCH_DEVICE_RATES_H_
