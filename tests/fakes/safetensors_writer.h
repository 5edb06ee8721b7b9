// Writes .safetensors files for tests, of any size: values are asked for in chunks. Not
// thread-safe.
#ifndef ADAMOE_TESTS_FAKES_SAFETENSORS_WRITER_H_
#define ADAMOE_TESTS_FAKES_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/base/dtype.h"

namespace adamoe {

struct NewTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
};

// Sets out[0..count) to the next values of `tensor`, row major. Called with begin = 0, then where
// the last call ended.
using FillFn =
    std::function<void(const NewTensor& tensor, int64_t begin, int64_t count, float* out)>;

// Writes `tensors` in their order, rounded to their types.
absl::Status WriteSafetensors(const std::string& path, const std::vector<NewTensor>& tensors,
                              const FillFn& fill);

// A file of these very parts, right or wrong: the header's length (its true one unless given), the
// header, the data.
std::string SafetensorsBytes(const std::string& header, const std::string& data);
std::string SafetensorsBytes(uint64_t header_length, const std::string& header,
                             const std::string& data);

// Writes `text` to `path`, whose folder must exist.
absl::Status WriteTextFile(const std::string& path, const std::string& text);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_SAFETENSORS_WRITER_H_
