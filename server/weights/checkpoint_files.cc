#include "server/weights/checkpoint_files.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/weights/json_reader.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr size_t kMaxIndexBytes = 16 << 20;

// A shard lies in the folder itself: the index may not point elsewhere.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

std::string Join(const std::string& dir, const std::string& name) {
  return (std::filesystem::path(dir) / name).string();
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// Whether reading all of `files` ahead can pay: what does not stay in memory would be read twice.
bool FitMemory(const std::vector<std::unique_ptr<SafetensorsFile>>& files) {
  uint64_t total = 0;
  for (const auto& file : files) total += file->num_bytes();
  const uint64_t memory =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return total <= memory / 4 * 3;
}

bool Has(const SafetensorsFile& file, const std::string& name) {
  return file.entries().count(name) > 0 || file.unsupported().count(name) > 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointFiles>> CheckpointFiles::OpenFolder(
    const std::string& dir) {
  const std::string single = Join(dir, "model.safetensors");
  if (Exists(single)) return OpenFile(single);
  const std::string index = Join(dir, "model.safetensors.index.json");
  if (!Exists(index)) {
    return absl::NotFoundError(
        absl::StrCat(dir, ": expected model.safetensors or model.safetensors.index.json"));
  }
  std::unique_ptr<CheckpointFiles> out(new CheckpointFiles);
  RETURN_IF_ERROR(out->AddShards(dir, index));
  return out;
}

absl::StatusOr<std::unique_ptr<CheckpointFiles>> CheckpointFiles::OpenFile(
    const std::string& path) {
  std::unique_ptr<CheckpointFiles> out(new CheckpointFiles);
  RETURN_IF_ERROR(out->AddFile(path));
  return out;
}

absl::Status CheckpointFiles::AddFile(const std::string& path) {
  source_ = path;
  ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path));
  for (const auto& [name, entry] : file->entries()) file_of_[name] = file.get();
  for (const auto& [name, type] : file->unsupported()) file_of_[name] = file.get();
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status CheckpointFiles::AddShards(const std::string& dir, const std::string& index_path) {
  source_ = index_path;
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(index_path, kMaxIndexBytes));
  ASSIGN_OR_RETURN(const json index, ParseJsonObject(text, index_path));
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_path, ": expected weight_map, an object of tensor and file names"));
  }
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, value] : weight_map->items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    if (!IsPlainFileName(shard)) {
      return absl::InvalidArgumentError(absl::StrCat(
          index_path, ": weight_map of tensor \"", absl::CEscape(name), "\" is ",
          value.is_string() ? absl::StrCat("\"", absl::CEscape(shard), "\"") : value.type_name(),
          ", expected the name of a file in the same folder"));
    }
    const SafetensorsFile*& file = shards[shard];
    if (file == nullptr) {
      auto opened = SafetensorsFile::Open(Join(dir, shard));
      if (!opened.ok()) {
        return absl::Status(opened.status().code(),
                            absl::StrCat(opened.status().message(), " (shard of tensor \"",
                                         absl::CEscape(name), "\" in ", index_path, ")"));
      }
      files_.push_back(*std::move(opened));
      file = files_.back().get();
    }
    if (!Has(*file, name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(file->path(), ": tensor \"", absl::CEscape(name),
                       "\" is absent, expected as ", index_path, " says"));
    }
    file_of_[name] = file;
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> CheckpointFiles::Find(const std::string& name) const {
  const auto it = file_of_.find(name);
  if (it == file_of_.end()) {
    return absl::NotFoundError(absl::StrCat(source_, ": tensor \"", name, "\" is absent"));
  }
  const SafetensorsFile& file = *it->second;
  const auto unsupported = file.unsupported().find(name);
  if (unsupported != file.unsupported().end()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": tensor \"", name, "\" has type ",
                                                   absl::CEscape(unsupported->second),
                                                   ", expected BF16, F16 or F32"));
  }
  const SafetensorsEntry& entry = file.entries().at(name);
  return TensorView{
      .data = entry.data, .dtype = entry.dtype, .shape = entry.shape, .in_file = entry.in_file};
}

absl::StatusOr<TensorView> CheckpointFiles::Find(const std::string& name,
                                                 const std::vector<int64_t>& shape) const {
  if (!Contains(name)) {
    return absl::NotFoundError(absl::StrCat(source_, ": tensor \"", name,
                                            "\" is absent, expected with shape [",
                                            absl::StrJoin(shape, ", "), "]"));
  }
  ASSIGN_OR_RETURN(TensorView view, Find(name));
  if (view.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        file_of_.at(name)->path(), ": tensor \"", name, "\" has shape [",
        absl::StrJoin(view.shape, ", "), "], expected [", absl::StrJoin(shape, ", "), "]"));
  }
  return view;
}

void CheckpointFiles::ReadAhead() const {
  if (!FitMemory(files_)) return;
  for (const auto& file : files_) file->ReadAhead();
}

std::vector<std::string> CheckpointFiles::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

}  // namespace adamoe
