// Reads the small JSON files of a checkpoint folder: every error names the file, the key, the value
// found and what was expected. Pure functions and a thread-compatible reader.
#ifndef ADAMOE_SERVER_WEIGHTS_JSON_READER_H_
#define ADAMOE_SERVER_WEIGHTS_JSON_READER_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace adamoe {

// The whole file. NOT_FOUND when it does not exist; INVALID_ARGUMENT when it is a folder,
// unreadable or larger than `max_bytes`.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t max_bytes);

// `text` as a JSON object. `file` names it in errors.
absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& text, const std::string& file);

// The keys of one JSON object. A getter whose value is missing, null where that is not allowed, or
// wrong returns its fallback and keeps the first such error in status().
class JsonFields {
 public:
  // `object` must outlive the reader. `path` is the object's own key with a trailing dot, or empty.
  JsonFields(const nlohmann::json& object, std::string file, std::string path = "");

  // Present and not null.
  bool Has(const std::string& key) const;
  // Null when the key is absent.
  const nlohmann::json* Find(const std::string& key) const;

  // An integer in [min, max]. Without a fallback the key is required; with one, absent and null
  // mean the fallback.
  int64_t Int(const std::string& key, int64_t min, int64_t max,
              std::optional<int64_t> fallback = std::nullopt);
  // A finite number in (0, max].
  double PositiveNumber(const std::string& key, double max,
                        std::optional<double> fallback = std::nullopt);
  bool Bool(const std::string& key, bool fallback);
  std::string String(const std::string& key, const std::string& fallback);
  // An integer, a list of integers, or null or absent (empty); each in [min, max].
  std::vector<int32_t> IntOrList(const std::string& key, int32_t min, int32_t max);

  // Keeps an INVALID_ARGUMENT for `key` unless an earlier error is kept.
  void Fail(const std::string& key, const std::string& expected);

  // Keeps `status` unless an earlier error is kept.
  void Keep(const absl::Status& status) { status_.Update(status); }

  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json& object_;
  const std::string file_;
  const std::string path_;
  absl::Status status_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_WEIGHTS_JSON_READER_H_
