// The tensors of a Hugging Face folder by name, whatever files they lie in: model.safetensors, or
// the shards that model.safetensors.index.json lists. Immutable after opening; thread-safe. Views
// live as long as it does.
#ifndef ADAMOE_SERVER_WEIGHTS_CHECKPOINT_FILES_H_
#define ADAMOE_SERVER_WEIGHTS_CHECKPOINT_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/weights/safetensors.h"
#include "server/weights/tensor_view.h"

namespace adamoe {

class CheckpointFiles {
 public:
  // Opens the weight files of a folder. model.safetensors is taken when both forms exist.
  // INVALID_ARGUMENT and NOT_FOUND name the file, and the tensor where one is at fault.
  static absl::StatusOr<std::unique_ptr<CheckpointFiles>> OpenFolder(const std::string& dir);
  // Opens one file.
  static absl::StatusOr<std::unique_ptr<CheckpointFiles>> OpenFile(const std::string& path);

  bool Contains(const std::string& name) const { return file_of_.count(name) > 0; }
  // The tensor, of any shape. NOT_FOUND when no file has it, INVALID_ARGUMENT when its type is not
  // supported.
  absl::StatusOr<TensorView> Find(const std::string& name) const;
  // The same, and INVALID_ARGUMENT unless it has `shape`.
  absl::StatusOr<TensorView> Find(const std::string& name, const std::vector<int64_t>& shape) const;

  // Asks the system to read all files into memory, when they fit.
  void ReadAhead() const;

  // Every name, sorted.
  std::vector<std::string> Names() const;
  // The file a tensor lies in. REQUIRES: Contains(name).
  const std::string& PathOf(const std::string& name) const { return file_of_.at(name)->path(); }
  // What lists the tensors: the file's path, or the index's.
  const std::string& source() const { return source_; }

 private:
  CheckpointFiles() = default;

  absl::Status AddFile(const std::string& path);
  absl::Status AddShards(const std::string& dir, const std::string& index_path);

  std::string source_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_CHECKPOINT_FILES_H_
