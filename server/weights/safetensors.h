// One .safetensors file, mapped read-only: an 8-byte little-endian header length, a JSON header,
// then the data (https://github.com/huggingface/safetensors, "Format"). The file is outside input:
// every size and offset is checked. Immutable after opening; thread-safe. The views it hands out
// live as long as it does.
#ifndef ADAMOE_SERVER_WEIGHTS_SAFETENSORS_H_
#define ADAMOE_SERVER_WEIGHTS_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/dtype.h"

namespace adamoe {

struct SafetensorsHeaderEntry;

struct SafetensorsEntry {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  const void* data = nullptr;  // aligned to its element type; not null, even with no elements
  size_t num_bytes = 0;
  bool in_file = true;  // else a copy, of data that lay askew in the file
};

class SafetensorsFile {
 public:
  // Maps and checks `path`. INVALID_ARGUMENT names the file,
  // the tensor and what was expected; NOT_FOUND when the file cannot be opened. A file that shrinks
  // while it is mapped ends the process (SIGBUS), as with any mapping.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  // Asks the system to read the whole file into memory.
  void ReadAhead() const;

  const std::string& path() const { return path_; }
  size_t num_bytes() const { return mapping_size_; }
  // By name. Tensors of a type other than bf16, fp16 and fp32 are listed in unsupported() (name ->
  // type) instead.
  const std::map<std::string, SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& unsupported() const { return unsupported_; }

 private:
  SafetensorsFile() = default;

  absl::Status Map();
  absl::Status ReadEntries();
  absl::Status AddEntry(const SafetensorsHeaderEntry& entry, const char* data);

  std::string path_;
  void* mapping_ = nullptr;
  size_t mapping_size_ = 0;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> unsupported_;
  // Tensors that lie askew in the file, copied.
  std::vector<std::unique_ptr<std::max_align_t[]>> aligned_copies_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_SAFETENSORS_H_
