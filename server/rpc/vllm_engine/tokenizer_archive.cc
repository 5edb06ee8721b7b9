#include "server/rpc/vllm_engine/tokenizer_archive.h"

#include <openssl/sha.h>
#include <zlib.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

constexpr const char* kFiles[] = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
};

// Zip's own words (APPNOTE.TXT): little-endian fields; times are 1980-01-01, so that archives of
// the same files are the same.
constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEndOfDirectory = 0x06054b50;
constexpr uint16_t kVersion = 20;
constexpr uint16_t kUtf8Names = 1 << 11;
constexpr uint16_t kStored = 0;
constexpr uint16_t kTime = 0;
constexpr uint16_t kDate = (1 << 5) | 1;

void Append16(uint16_t value, std::string* bytes) {
  bytes->push_back(static_cast<char>(value & 0xff));
  bytes->push_back(static_cast<char>(value >> 8));
}

void Append32(uint32_t value, std::string* bytes) {
  Append16(static_cast<uint16_t>(value & 0xffff), bytes);
  Append16(static_cast<uint16_t>(value >> 16), bytes);
}

// What a local and a central header have in common, from the version needed on.
void AppendEntry(const std::string& name, const std::string& content, std::string* bytes) {
  Append16(kVersion, bytes);
  Append16(kUtf8Names, bytes);
  Append16(kStored, bytes);
  Append16(kTime, bytes);
  Append16(kDate, bytes);
  const auto size = static_cast<uint32_t>(content.size());
  Append32(static_cast<uint32_t>(
               crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size())),
           bytes);
  Append32(size, bytes);  // compressed
  Append32(size, bytes);
  Append16(static_cast<uint16_t>(name.size()), bytes);
  Append16(0, bytes);  // no extra field
}

void AppendCentral(const std::string& name, const std::string& content, uint32_t offset,
                   std::string* bytes) {
  Append32(kCentralHeader, bytes);
  Append16(kVersion, bytes);  // made by
  AppendEntry(name, content, bytes);
  Append16(0, bytes);  // no comment
  Append16(0, bytes);  // disk
  Append16(0, bytes);  // internal attributes
  Append32(0, bytes);  // external attributes
  Append32(offset, bytes);
  bytes->append(name);
}

std::string Sha256(const std::string& bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

}  // namespace

absl::StatusOr<Archive> MakeArchive(
    const std::vector<std::pair<std::string, std::string>>& entries) {
  size_t num_bytes = 1024;
  for (const auto& [name, content] : entries) num_bytes += 2 * (64 + name.size()) + content.size();
  if (num_bytes > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(num_bytes, " bytes do not fit a zip"));
  }
  Archive archive;
  std::string directory;
  archive.bytes.reserve(num_bytes);
  for (const auto& [name, content] : entries) {
    AppendCentral(name, content, static_cast<uint32_t>(archive.bytes.size()), &directory);
    Append32(kLocalHeader, &archive.bytes);
    AppendEntry(name, content, &archive.bytes);
    archive.bytes.append(name);
    archive.bytes.append(content);
  }
  const auto offset = static_cast<uint32_t>(archive.bytes.size());
  archive.bytes.append(directory);
  Append32(kEndOfDirectory, &archive.bytes);
  Append16(0, &archive.bytes);  // this disk
  Append16(0, &archive.bytes);  // the directory's disk
  Append16(static_cast<uint16_t>(entries.size()), &archive.bytes);
  Append16(static_cast<uint16_t>(entries.size()), &archive.bytes);
  Append32(static_cast<uint32_t>(directory.size()), &archive.bytes);
  Append32(offset, &archive.bytes);
  Append16(0, &archive.bytes);  // no comment
  archive.sha256 = Sha256(archive.bytes);
  return archive;
}

absl::StatusOr<std::shared_ptr<const Archive>> TokenizerArchive::Get() {
  absl::MutexLock lock(&mu_);
  if (archive_ != nullptr) return archive_;
  std::vector<std::pair<std::string, std::string>> entries;
  for (const char* name : kFiles) {
    std::ifstream file(absl::StrCat(folder_, "/", name), std::ios::binary);
    if (!file) continue;
    entries.emplace_back(name, std::string(std::istreambuf_iterator<char>(file), {}));
    if (file.bad()) return absl::UnavailableError(absl::StrCat("cannot read ", name));
  }
  if (entries.empty()) return absl::NotFoundError("the model folder has no tokenizer files");
  ASSIGN_OR_RETURN(Archive archive, MakeArchive(entries));
  archive_ = std::make_shared<const Archive>(std::move(archive));
  return archive_;
}

}  // namespace adamoe
