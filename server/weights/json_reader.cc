#include "server/weights/json_reader.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr int kMaxNesting = 64;

// Long or deep values are cut: a message is one line.
std::string Shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array() && value.size() > 8) return absl::StrCat("a list of ", value.size());
  if (value.is_array()) {
    for (const json& item : value) {
      if (item.is_structured()) return "a list";
    }
  }
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

bool IsIntIn(const json& value, int64_t min, int64_t max) {
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    return max >= 0 && number <= static_cast<uint64_t>(max) &&
           (min <= 0 || number >= static_cast<uint64_t>(min));
  }
  return value.is_number_integer() && value.get<int64_t>() >= min && value.get<int64_t>() <= max;
}

// The deepest nesting of brackets outside strings. A document much deeper than any of ours costs
// memory out of proportion to its size.
int NestingDepth(const std::string& text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '[' || c == '{')) {
      deepest = std::max(deepest, ++depth);
    } else if (!in_string && (c == ']' || c == '}')) {
      --depth;
    }
  }
  return deepest;
}

std::string Range(int64_t min, int64_t max) {
  return absl::StrCat("an integer from ", min, " to ", max);
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t max_bytes) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(
        absl::StrCat(path, ": ", error ? error.message() : "No such file or directory"));
  }
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a regular file"));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", size, " bytes, expected at most ", max_bytes));
  }
  std::string text(size, '\0');
  std::ifstream in(path, std::ios::binary);
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  return text;
}

absl::StatusOr<json> ParseJsonObject(const std::string& text, const std::string& file) {
  if (NestingDepth(text) > kMaxNesting) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": nested more than ", kMaxNesting, " deep"));
  }
  json parsed;
  try {
    parsed = json::parse(text);
  } catch (const json::exception& e) {
    // The library's own message, less its "[json.exception...] ", may quote any bytes.
    const std::string what = e.what();
    const size_t bracket = what.find("] ");
    const std::string reason = bracket == std::string::npos ? what : what.substr(bracket + 2);
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": not valid JSON: ", absl::CEscape(reason.substr(0, 200))));
  }
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": expected a JSON object, found ", Shown(parsed)));
  }
  return parsed;
}

JsonFields::JsonFields(const json& object, std::string file, std::string path)
    : object_(object), file_(std::move(file)), path_(std::move(path)) {}

const json* JsonFields::Find(const std::string& key) const {
  const auto it = object_.find(key);
  return it == object_.end() ? nullptr : &*it;
}

bool JsonFields::Has(const std::string& key) const {
  const json* value = Find(key);
  return value != nullptr && !value->is_null();
}

void JsonFields::Fail(const std::string& key, const std::string& expected) {
  if (!status_.ok()) return;
  const json* value = Find(key);
  status_ = absl::InvalidArgumentError(absl::StrCat(file_, ": ", path_, key, " is ",
                                                    value == nullptr ? "absent" : Shown(*value),
                                                    ", expected ", expected));
}

int64_t JsonFields::Int(const std::string& key, int64_t min, int64_t max,
                        std::optional<int64_t> fallback) {
  if (fallback.has_value() && !Has(key)) return *fallback;
  const json* value = Find(key);
  if (value == nullptr || !IsIntIn(*value, min, max)) {
    Fail(key, Range(min, max));
    return fallback.value_or(min);
  }
  return value->get<int64_t>();
}

double JsonFields::PositiveNumber(const std::string& key, double max,
                                  std::optional<double> fallback) {
  if (fallback.has_value() && !Has(key)) return *fallback;
  const json* value = Find(key);
  const double number = value != nullptr && value->is_number() ? value->get<double>() : -1.0;
  // It must not round to 0 as a float either.
  if (!(number <= max && static_cast<float>(number) > 0.0f)) {
    Fail(key, absl::StrCat("a number above 0 and at most ", max));
    return fallback.value_or(max);
  }
  return number;
}

bool JsonFields::Bool(const std::string& key, bool fallback) {
  if (!Has(key)) return fallback;
  const json* value = Find(key);
  if (!value->is_boolean()) {
    Fail(key, "true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonFields::String(const std::string& key, const std::string& fallback) {
  if (!Has(key)) return fallback;
  const json* value = Find(key);
  if (!value->is_string()) {
    Fail(key, "a string");
    return fallback;
  }
  return value->get<std::string>();
}

std::vector<int32_t> JsonFields::IntOrList(const std::string& key, int32_t min, int32_t max) {
  std::vector<int32_t> numbers;
  if (!Has(key)) return numbers;
  const json* value = Find(key);
  const json list = value->is_array() ? *value : json::array({*value});
  for (const json& item : list) {
    if (!IsIntIn(item, min, max)) {
      Fail(key, absl::StrCat(Range(min, max), " or a list of them"));
      return {};
    }
    numbers.push_back(item.get<int32_t>());
  }
  return numbers;
}

}  // namespace adamoe
