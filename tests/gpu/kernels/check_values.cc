#include "tests/gpu/kernels/check_values.h"

#include <cmath>
#include <cstring>
#include <random>

#include "server/base/dtype.h"
#include "tests/gpu/kernels/kernel_checks.h"

namespace adamoe {

std::vector<float> RandomFloats(int64_t n, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(n);
  for (float& value : values) value = uniform(random);
  return values;
}

std::vector<uint16_t> RandomBf16(int64_t n, uint32_t seed, float scale) {
  return ToBf16(RandomFloats(n, seed, scale));
}

std::vector<uint16_t> ToBf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  bits.reserve(values.size());
  for (float value : values) bits.push_back(Bf16FromFloat(value));
  return bits;
}

std::vector<float> ToFloat(const std::vector<uint16_t>& values) {
  std::vector<float> wide;
  wide.reserve(values.size());
  for (uint16_t value : values) wide.push_back(FloatFromBf16(value));
  return wide;
}

bool Untouched(const void* data, size_t num_bytes) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < num_bytes; ++i) {
    if (bytes[i] != 0xff) return false;
  }
  return true;
}

void ExpectLaunched(cudaError_t error, const std::string& what) {
  Expect(error == cudaSuccess,
         what + ": the launch failed with error " + std::to_string(static_cast<int>(error)));
}

void Expect(bool condition, const std::string& what) {
  if (!condition) Fail(what);
}

void ExpectNear(const std::vector<float>& actual, const std::vector<float>& expected,
                double tolerance, const std::string& what) {
  if (actual.size() != expected.size()) return Fail(what + ": another number of elements");
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::abs(static_cast<double>(actual[i]) - expected[i]) <= tolerance) continue;
    return Fail(what + ": element " + std::to_string(i) + " is " + std::to_string(actual[i]) +
                ", expected " + std::to_string(expected[i]));
  }
}

}  // namespace adamoe
