#include "server/tokenizer/json_field.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxQuoted = 200;

const nlohmann::json& Null() {
  static const auto* const null = new nlohmann::json(nullptr);
  return *null;
}

// Counts brackets outside strings, so that the limit holds before anything is built.
bool NestsTooDeep(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

JsonField JsonField::Member(absl::string_view key, const nlohmann::json* value) const {
  return JsonField(value, file_,
                   place_.empty() ? std::string(key) : absl::StrCat(place_, ".", key));
}

JsonField JsonField::operator[](absl::string_view key) const {
  const nlohmann::json* member = &Null();
  if (value_->is_object()) {
    const auto found = value_->find(std::string(key));
    if (found != value_->end()) member = &*found;
  }
  return Member(key, member);
}

absl::StatusOr<std::string> JsonField::String() const {
  if (!value_->is_string()) return Expected("a string");
  return value_->get_ref<const std::string&>();
}

absl::StatusOr<bool> JsonField::Bool() const {
  if (!value_->is_boolean()) return Expected("true or false");
  return value_->get<bool>();
}

absl::StatusOr<bool> JsonField::Bool(bool if_null) const {
  if (IsNull()) return if_null;
  return Bool();
}

absl::StatusOr<int32_t> JsonField::Index(int32_t max) const {
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() > static_cast<uint64_t>(max)) {
    return Expected(absl::StrCat("a whole number in [0, ", max, "]"));
  }
  return value_->get<int32_t>();
}

absl::StatusOr<std::vector<JsonField>> JsonField::Array() const {
  if (!value_->is_array()) return Expected("an array");
  std::vector<JsonField> elements;
  elements.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    elements.push_back(JsonField(&(*value_)[i], file_, absl::StrCat(place_, "[", i, "]")));
  }
  return elements;
}

absl::StatusOr<const nlohmann::json::object_t*> JsonField::Object() const {
  if (!value_->is_object()) return Expected("an object");
  return value_->get_ptr<const nlohmann::json::object_t*>();
}

absl::Status JsonField::Error(absl::string_view problem) const {
  if (place_.empty()) return absl::InvalidArgumentError(absl::StrCat(file_, ": ", problem));
  return absl::InvalidArgumentError(absl::StrCat(file_, ": ", place_, ": ", problem));
}

absl::Status JsonField::Expected(absl::string_view what) const {
  std::string got = value_->type_name();
  if (value_->is_number()) got = value_->dump();
  return Error(absl::StrCat("expected ", what, ", got ", got));
}

absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, const std::string& file) {
  if (NestsTooDeep(text)) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": nested deeper than ", kMaxDepth));
  }
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& e) {
    // The library's message may quote any bytes, and as many as the file has.
    const std::string what = std::string(e.what()).substr(0, kMaxQuoted);
    return absl::InvalidArgumentError(absl::StrCat(file, ": not JSON: ", absl::CEscape(what)));
  }
}

}  // namespace adamoe
