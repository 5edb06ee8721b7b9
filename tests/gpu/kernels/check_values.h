// Values for the checks of kernels: random ones, and how far results are from what was expected.
#ifndef ADAMOE_TESTS_GPU_KERNELS_CHECK_VALUES_H_
#define ADAMOE_TESTS_GPU_KERNELS_CHECK_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "server/kernels/cuda/cuda_types.h"

namespace adamoe {

// Uniform in [-scale, scale].
std::vector<float> RandomFloats(int64_t n, uint32_t seed, float scale = 1.0f);
std::vector<uint16_t> RandomBf16(int64_t n, uint32_t seed, float scale = 1.0f);

std::vector<uint16_t> ToBf16(const std::vector<float>& values);
std::vector<float> ToFloat(const std::vector<uint16_t>& values);

// Whether every byte is as DeviceMemory leaves it.
bool Untouched(const void* data, size_t num_bytes);

// Notes a failure of the check in hand when the launch failed.
void ExpectLaunched(cudaError_t error, const std::string& what);
void Expect(bool condition, const std::string& what);
// Notes the first element that differs by more than `tolerance`, or is not a number.
void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected,
                double tolerance, const std::string& what);

template <class T>
void ExpectEqual(const std::vector<T>& actual, const std::vector<T>& expected,
                 const std::string& what) {
  Expect(actual == expected, what);
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_KERNELS_CHECK_VALUES_H_
