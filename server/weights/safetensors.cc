#include "server/weights/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/weights/safetensors_header.h"

namespace adamoe {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

std::optional<DType> DTypeFromName(const std::string& name) {
  if (name == "BF16") return DType::kBFloat16;
  if (name == "F16") return DType::kFloat16;
  if (name == "F32") return DType::kFloat32;
  return std::nullopt;
}

// As it may stand in a message, whatever the file calls it.
std::string Quoted(const std::string& name) {
  return absl::StrCat("\"", absl::CEscape(name.substr(0, 200)), "\"");
}

uint64_t LittleEndian64(const unsigned char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | bytes[i];
  return value;
}

// Bytes of `shape`, or nullopt past 2^63. A zero dimension empties the tensor but does not excuse
// the others.
std::optional<uint64_t> NumBytes(const std::vector<uint64_t>& shape, size_t element_bytes) {
  constexpr uint64_t kLimit = uint64_t{1} << 63;
  uint64_t product = element_bytes;
  bool empty = false;
  for (uint64_t dimension : shape) {
    if (dimension >= kLimit) return std::nullopt;
    if (dimension == 0) {
      empty = true;
      continue;
    }
    if (product >= kLimit / dimension) return std::nullopt;
    product *= dimension;
  }
  return empty ? 0 : product;
}

// The format wants the data section covered without gap or overlap.
absl::Status CheckLayout(std::vector<const SafetensorsHeaderEntry*> entries, uint64_t data_bytes,
                         const std::string& path) {
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t next = 0;
  for (const SafetensorsHeaderEntry* entry : entries) {
    if (entry->end < entry->begin || entry->end > data_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor ", Quoted(entry->name), " has data_offsets [", entry->begin, ", ",
          entry->end, "], expected within the file's ", data_bytes, " bytes of data"));
    }
    if (entry->begin != next) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", Quoted(entry->name), " begins at byte ", entry->begin,
                       " of the data, expected ", next, ": tensors may not overlap or leave gaps"));
    }
    next = entry->end;
  }
  if (next == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": ", data_bytes, " bytes of data, expected ", next, " as the header's tensors cover"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->path_ = path;
  RETURN_IF_ERROR(file->Map());
  RETURN_IF_ERROR(file->ReadEntries());
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_size_);
}

void SafetensorsFile::ReadAhead() const {
  // Linux takes a few megabytes of one call at most.
  constexpr size_t kPiece = 2 << 20;
  for (size_t begin = 0; begin < mapping_size_; begin += kPiece) {
    madvise(static_cast<char*>(mapping_) + begin, std::min(kPiece, mapping_size_ - begin),
            MADV_WILLNEED);
  }
}

absl::Status SafetensorsFile::Map() {
  // Not blocking, so that a pipe in the file's place cannot hang the server.
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::NotFoundError(absl::StrCat(path_, ": ", std::strerror(errno)));
  struct stat info {};
  absl::Status status;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    status = absl::InvalidArgumentError(absl::StrCat(path_, ": expected a regular file"));
  } else if (info.st_size < static_cast<off_t>(kLengthBytes)) {
    status = absl::InvalidArgumentError(absl::StrCat(
        path_, ": ", info.st_size, " bytes, expected at least the 8 of the header's length"));
  } else {
    const size_t size = static_cast<size_t>(info.st_size);
    void* mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED) {
      status = absl::InvalidArgumentError(
          absl::StrCat(path_, ": cannot be mapped: ", std::strerror(errno)));
    } else {
      mapping_ = mapping;
      mapping_size_ = size;
    }
  }
  close(fd);
  return status;
}

absl::Status SafetensorsFile::ReadEntries() {
  const char* const bytes = static_cast<const char*>(mapping_);
  const uint64_t rest = mapping_size_ - kLengthBytes;
  const uint64_t header_bytes = LittleEndian64(static_cast<const unsigned char*>(mapping_));
  if (header_bytes > std::min(rest, kMaxHeaderBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_, ": header of ", header_bytes, " bytes, expected at most ",
        header_bytes > kMaxHeaderBytes ? absl::StrCat(kMaxHeaderBytes)
                                       : absl::StrCat(rest, ", the rest of the file")));
  }
  const char* const header = bytes + kLengthBytes;
  const char* const data = header + header_bytes;
  ASSIGN_OR_RETURN(const auto entries, ParseSafetensorsHeader(header, data, path_));
  std::vector<const SafetensorsHeaderEntry*> by_offset;
  for (const SafetensorsHeaderEntry& entry : entries) by_offset.push_back(&entry);
  RETURN_IF_ERROR(CheckLayout(std::move(by_offset), rest - header_bytes, path_));
  for (const SafetensorsHeaderEntry& entry : entries) RETURN_IF_ERROR(AddEntry(entry, data));
  return absl::OkStatus();
}

absl::Status SafetensorsFile::AddEntry(const SafetensorsHeaderEntry& entry, const char* data) {
  const std::optional<DType> dtype = DTypeFromName(entry.dtype);
  if (!dtype.has_value()) {
    unsupported_[entry.name] = entry.dtype;
    return absl::OkStatus();
  }
  const uint64_t num_bytes = entry.end - entry.begin;
  const std::optional<uint64_t> expected = NumBytes(entry.shape, SizeOf(*dtype));
  if (!expected.has_value() || num_bytes != *expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_, ": tensor ", Quoted(entry.name), " has ", num_bytes, " bytes of data, expected ",
        expected.has_value() ? absl::StrCat(*expected) : "more than 2^63", " for ", entry.dtype,
        " [", absl::StrJoin(entry.shape, ", "), "]"));
  }
  SafetensorsEntry out;
  out.dtype = *dtype;
  out.shape.assign(entry.shape.begin(), entry.shape.end());
  out.num_bytes = num_bytes;
  out.data = data + entry.begin;
  if (reinterpret_cast<uintptr_t>(out.data) % SizeOf(*dtype) != 0) {
    auto copy = std::make_unique<std::max_align_t[]>(num_bytes / sizeof(std::max_align_t) + 1);
    std::memcpy(copy.get(), out.data, num_bytes);
    out.data = copy.get();
    out.in_file = false;
    aligned_copies_.push_back(std::move(copy));
  }
  entries_[entry.name] = std::move(out);
  return absl::OkStatus();
}

}  // namespace adamoe
