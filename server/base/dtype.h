// Element types of tensors in checkpoints, caches and packed matrices. All functions are pure and
// thread-safe.
#ifndef ADAMOE_SERVER_BASE_DTYPE_H_
#define ADAMOE_SERVER_BASE_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace adamoe {

// kInt8 and kInt4 are found in packed matrices only (kernels/packed.h).
enum class DType : uint8_t { kBFloat16, kFloat16, kFloat32, kInt8, kInt4 };

constexpr bool IsPacked(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kInt4; }

// Bytes of one element. REQUIRES: not packed.
constexpr size_t SizeOf(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

// "bfloat16", "float16", "float32", "int8" or "int4".
constexpr const char* Name(DType dtype) {
  constexpr const char* kNames[] = {"bfloat16", "float16", "float32", "int8", "int4"};
  return kNames[static_cast<int>(dtype)];
}

// The value of a bfloat16 given by its bits.
inline float FloatFromBf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// The bits of the bfloat16 nearest to `value`, ties to even. NaN stays NaN.
inline uint16_t Bf16FromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>(bits >> 16);
}

// The value of an IEEE half given by its bits.
float FloatFromF16(uint16_t bits);

// Elements [begin, begin + count) of `data`, as float32 to `out`. REQUIRES: not packed.
inline void CopyToFloat32(const void* data, DType dtype, int64_t begin, int64_t count, float* out) {
  if (dtype == DType::kFloat32) {
    if (count > 0) std::memcpy(out, static_cast<const float*>(data) + begin, 4 * count);
    return;
  }
  const uint16_t* bits = static_cast<const uint16_t*>(data) + begin;
  if (dtype == DType::kBFloat16) {
    for (int64_t i = 0; i < count; ++i) out[i] = FloatFromBf16(bits[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = FloatFromF16(bits[i]);
  }
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_BASE_DTYPE_H_
