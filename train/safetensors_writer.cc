#include "train/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

const char* TypeName(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "F32";
    case at::kHalf:
      return "F16";
    case at::kBFloat16:
      return "BF16";
    default:
      return nullptr;
  }
}

// A file under a temporary name that takes its real one when it is complete.
class PendingFile {
 public:
  explicit PendingFile(const std::string& path)
      : path_(path),
        temporary_(absl::StrCat(path, ".", getpid(), ".tmp")),
        fd_(open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {}

  ~PendingFile() {
    if (fd_ >= 0) close(fd_);
    if (!is_done_) unlink(temporary_.c_str());
  }

  absl::Status Write(const void* data, size_t size) {
    const char* bytes = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t written = write(fd_, bytes, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Error("cannot be written");
      bytes += written;
      size -= written;
    }
    return absl::OkStatus();
  }

  absl::Status Finish() {
    if (fsync(fd_) != 0) return Error("cannot be written");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return Error("cannot be renamed");
    is_done_ = true;
    return absl::OkStatus();
  }

 private:
  absl::Status Error(const char* what) const {
    return absl::InternalError(absl::StrCat(temporary_, ": ", what, ": ", std::strerror(errno)));
  }

  const std::string path_;
  const std::string temporary_;
  const int fd_;
  bool is_done_ = false;
};

absl::StatusOr<std::string> Header(const NamedTensors& tensors) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const char* type = TypeName(tensor.scalar_type());
    if (type == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": type cannot be saved"));
    }
    if (header.contains(name))
      return absl::InvalidArgumentError(absl::StrCat(name, ": given twice"));
    const uint64_t end = offset + tensor.nbytes();
    header[name] = {
        {"dtype", type}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  // Readers map the data that follows: keep it aligned.
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, const NamedTensors& tensors) {
  ASSIGN_OR_RETURN(const std::string header, Header(tensors));
  PendingFile file(path);
  const uint64_t header_size = header.size();
  RETURN_IF_ERROR(file.Write(&header_size, sizeof(header_size)));
  RETURN_IF_ERROR(file.Write(header.data(), header.size()));
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor contiguous = tensor.to(at::kCPU).contiguous();
    RETURN_IF_ERROR(file.Write(contiguous.const_data_ptr(), contiguous.nbytes()));
  }
  return file.Finish();
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view content) {
  PendingFile file(path);
  RETURN_IF_ERROR(file.Write(content.data(), content.size()));
  return file.Finish();
}

absl::Status MakeFolder(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (!error) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(dir, ": cannot be made: ", error.message()));
}

}  // namespace adamoe
