#include "server/http/field_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "server/serving/request_errors.h"

namespace adamoe {

absl::string_view KindOf(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return "a number";
}

std::optional<int64_t> WholeNumber(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  constexpr double kExact = int64_t{1} << 53;
  if (std::trunc(number) != number || std::abs(number) > kExact) return std::nullopt;
  return static_cast<int64_t>(number);
}

const Json* FieldReader::Find(absl::string_view name) const {
  for (const auto& [key, value] : object_.get_ref<const Json::object_t&>()) {
    if (key == name) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

void FieldReader::Fail(absl::string_view name, absl::string_view problem) {
  status_.Update(FieldError(absl::StrCat(prefix_, name), problem));
}

std::optional<bool> FieldReader::Bool(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  Fail(name, absl::StrCat("must be a boolean, is ", KindOf(*value)));
  return std::nullopt;
}

std::optional<float> FieldReader::Float(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    constexpr double kMax = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(value->get<double>(), -kMax, kMax));
  }
  Fail(name, absl::StrCat("must be a number, is ", KindOf(*value)));
  return std::nullopt;
}

std::optional<int64_t> FieldReader::Integer(absl::string_view name, int64_t min, int64_t max) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    Fail(name, absl::StrCat("must be a whole number, is ", KindOf(*value)));
    return std::nullopt;
  }
  const std::optional<int64_t> number = WholeNumber(*value);
  if (number.has_value() && *number >= min && *number <= max) return number;
  Fail(name, absl::StrCat(value->dump(), " is not a whole number in [", min, ", ", max, "]"));
  return std::nullopt;
}

std::optional<std::string> FieldReader::String(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  Fail(name, absl::StrCat("must be a string, is ", KindOf(*value)));
  return std::nullopt;
}

const Json* FieldReader::Object(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  Fail(name, absl::StrCat("must be an object, is ", KindOf(*value)));
  return nullptr;
}

const Json* FieldReader::Array(absl::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr || value->is_array()) return value;
  Fail(name, absl::StrCat("must be an array, is ", KindOf(*value)));
  return nullptr;
}

}  // namespace adamoe
