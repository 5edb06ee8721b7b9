#include "server/base/dtype.h"

namespace adamoe {

float FloatFromF16(uint16_t bits) {
  // Shifting exponent and mantissa into place leaves the exponent 112 too small; the multiplication
  // by 2^112 adds it, and turns subnormal halves into the right normal floats.
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fffu) << 13;
  float scaled;
  std::memcpy(&scaled, &magnitude, sizeof(scaled));
  scaled *= 0x1p112f;
  uint32_t out;
  std::memcpy(&out, &scaled, sizeof(out));
  if ((bits & 0x7c00u) == 0x7c00u) out = 0x7f800000u | (magnitude & 0x007fffffu);
  out |= sign;
  float value;
  std::memcpy(&value, &out, sizeof(value));
  return value;
}

}  // namespace adamoe
