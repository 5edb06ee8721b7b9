// The JSON header of a .safetensors file, read as a stream: no document is built, so a hostile
// header costs no more than its own size, and keys that appear twice are seen. Internal to
// weights/. Pure.
#ifndef ADAMOE_SERVER_WEIGHTS_SAFETENSORS_HEADER_H_
#define ADAMOE_SERVER_WEIGHTS_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace adamoe {

// One tensor as the header states it; only the form has been checked, not the numbers.
struct SafetensorsHeaderEntry {
  std::string name;
  std::string dtype;  // "BF16", ...
  std::vector<uint64_t> shape;
  uint64_t begin = 0;  // data_offsets, in bytes from the end of the header
  uint64_t end = 0;
};

// Parses [begin, end). `path` names the file in errors: INVALID_ARGUMENT naming it, the tensor and
// what was expected.
absl::StatusOr<std::vector<SafetensorsHeaderEntry>> ParseSafetensorsHeader(const char* begin,
                                                                           const char* end,
                                                                           const std::string& path);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_SAFETENSORS_HEADER_H_
