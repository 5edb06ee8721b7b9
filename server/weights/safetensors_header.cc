// The grammar, by depth:
//   0  { name: tensor, ..., "__metadata__": metadata }
//   1  tensor = { "dtype": string, "shape": [integers], "data_offsets": [begin, end] }, metadata =
//   { key: string } 2  the three fields 3  the integers
#include "server/weights/safetensors_header.h"

#include <cstddef>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr size_t kMaxDimensions = 8;
constexpr char kMetadata[] = "__metadata__";

// Each callback returns false to stop the parser, after Fail has kept the reason.
class HeaderHandler : public nlohmann::json_sax<json> {
 public:
  std::vector<SafetensorsHeaderEntry> entries;
  std::string error;

  bool start_object(size_t) override {
    if (depth_ <= 1) {
      if (depth_ == 1 && !in_metadata_) entries.emplace_back().name = name_;
      ++depth_;
      return true;
    }
    return Unexpected("an object");
  }

  bool key(std::string& key) override {
    if (depth_ == 1) {
      if (!names_.insert(key).second) return Fail(absl::StrCat(Quoted(key), " appears twice"));
      if (key.empty()) return Fail("a tensor has an empty name");
      name_ = key;
      in_metadata_ = key == kMetadata;
      seen_dtype_ = seen_shape_ = seen_offsets_ = false;
      return true;
    }
    if (in_metadata_) return true;
    field_ = key;
    bool* seen = key == "dtype"          ? &seen_dtype_
                 : key == "shape"        ? &seen_shape_
                 : key == "data_offsets" ? &seen_offsets_
                                         : nullptr;
    if (seen == nullptr) {
      return Fail(absl::StrCat(Where(), " has unknown field ", Quoted(key),
                               ", expected dtype, shape and data_offsets"));
    }
    if (*seen) return Fail(absl::StrCat(Where(), " has ", key, " twice"));
    *seen = true;
    return true;
  }

  bool end_object() override {
    if (depth_ == 2 && !in_metadata_ && !(seen_dtype_ && seen_shape_ && seen_offsets_)) {
      return Fail(absl::StrCat(Where(), " lacks ",
                               !seen_dtype_   ? "dtype"
                               : !seen_shape_ ? "shape"
                                              : "data_offsets"));
    }
    --depth_;
    return true;
  }

  bool start_array(size_t) override {
    if (depth_ != 2 || in_metadata_ || field_ == "dtype") return Unexpected("a list");
    numbers_.clear();
    ++depth_;
    return true;
  }

  bool end_array() override {
    --depth_;
    if (field_ == "shape") {
      entries.back().shape = numbers_;
      return true;
    }
    if (numbers_.size() != 2) {
      return Fail(absl::StrCat(Where(), " has ", numbers_.size(), " data_offsets, expected 2"));
    }
    entries.back().begin = numbers_[0];
    entries.back().end = numbers_[1];
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (depth_ != 3) return Unexpected(absl::StrCat(value));
    const size_t limit = field_ == "shape" ? kMaxDimensions : 2;
    if (numbers_.size() == limit) {
      return Fail(absl::StrCat(Where(), " has more than ", limit, " numbers in ", field_));
    }
    numbers_.push_back(value);
    return true;
  }

  bool string(std::string& value) override {
    if (depth_ == 2 && in_metadata_) return true;
    if (depth_ != 2 || field_ != "dtype") return Unexpected("a string");
    entries.back().dtype = value;
    return true;
  }

  bool number_integer(int64_t value) override { return Unexpected(absl::StrCat(value)); }
  bool number_float(double, const std::string& text) override { return Unexpected(text); }
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool binary(binary_t&) override { return Unexpected("bytes"); }

  bool parse_error(size_t position, const std::string&, const json::exception&) override {
    return Fail(absl::StrCat("the header is not valid JSON at byte ", position));
  }

 private:
  static std::string Quoted(const std::string& name) {
    return absl::StrCat("\"", absl::CEscape(name.substr(0, 200)), "\"");
  }

  // What the parser stands in.
  std::string Where() const {
    return in_metadata_ ? kMetadata : absl::StrCat("tensor ", Quoted(name_));
  }

  bool Fail(std::string reason) {
    if (error.empty()) error = std::move(reason);
    return false;
  }

  bool Unexpected(const std::string& found) {
    if (depth_ == 0) return Fail(absl::StrCat("the header is ", found, ", expected a JSON object"));
    if (depth_ == 1) return Fail(absl::StrCat(Where(), " is ", found, ", expected an object"));
    if (in_metadata_) return Fail(absl::StrCat(kMetadata, " holds ", found, ", expected strings"));
    return Fail(absl::StrCat(Where(), ": ", field_, " holds ", found, ", expected ",
                             field_ == "dtype" ? "a string" : "a list of non-negative integers"));
  }

  int depth_ = 0;
  std::unordered_set<std::string> names_;
  std::string name_;
  std::string field_;
  bool in_metadata_ = false;
  bool seen_dtype_ = false;
  bool seen_shape_ = false;
  bool seen_offsets_ = false;
  std::vector<uint64_t> numbers_;
};

}  // namespace

absl::StatusOr<std::vector<SafetensorsHeaderEntry>> ParseSafetensorsHeader(
    const char* begin, const char* end, const std::string& path) {
  HeaderHandler handler;
  if (!json::sax_parse(begin, end, &handler)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", handler.error));
  }
  return std::move(handler.entries);
}

}  // namespace adamoe
