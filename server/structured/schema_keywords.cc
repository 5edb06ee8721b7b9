#include "server/structured/schema_keywords.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

using nlohmann::json;

// Never followed.
constexpr const char* kUnknown[] = {"not",
                                    "if",
                                    "then",
                                    "else",
                                    "dependencies",
                                    "dependentRequired",
                                    "dependentSchemas",
                                    "contains",
                                    "minContains",
                                    "maxContains",
                                    "additionalItems",
                                    "$dynamicRef",
                                    "$recursiveRef"};

// The first of these that a schema has is all of it that is followed.
constexpr const char* kSole[] = {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"};

// A schema with one of these has a type, if only an implied one.
constexpr const char* kTyping[] = {
    "type",  "properties",  "additionalProperties", "unevaluatedProperties",
    "items", "prefixItems", "unevaluatedItems"};

// What else restricts a value, given its type.
constexpr const char* kRestricting[] = {
    "required",         "patternProperties", "propertyNames", "minProperties", "maxProperties",
    "minItems",         "maxItems",          "minimum",       "maximum",       "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf",        "minLength",     "maxLength",     "pattern"};

constexpr const char* kSubschema[] = {"items", "additionalProperties", "unevaluatedProperties",
                                      "unevaluatedItems", "propertyNames"};
constexpr const char* kSubschemaLists[] = {"prefixItems", "anyOf", "oneOf", "allOf"};
constexpr const char* kSubschemaMaps[] = {"properties", "patternProperties", "$defs",
                                          "definitions"};

absl::Status Refuse(const std::string& path, absl::string_view keyword, absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat(path.empty() ? "the schema" : path, ": ", keyword, " ", problem));
}

// Null when the schema has none of them, other than `except`.
template <size_t kSize>
const char* FirstOf(const json& schema, const char* const (&keywords)[kSize],
                    absl::string_view except = "") {
  for (const char* keyword : keywords) {
    if (keyword != except && schema.contains(keyword)) return keyword;
  }
  return nullptr;
}

bool HasType(const json& value, const json& type) {
  if (type.is_array()) {
    return std::any_of(type.begin(), type.end(), [&](const json& t) { return HasType(value, t); });
  }
  if (!type.is_string()) return false;
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  return value.type_name() == type.get_ref<const std::string&>();
}

// Of a schema that has `sole`.
absl::Status CheckSole(const json& schema, absl::string_view sole, const std::string& path) {
  const char* other = FirstOf(schema, kSole, sole);
  if (other == nullptr) other = FirstOf(schema, kRestricting);
  if (other == nullptr) other = FirstOf(schema, kTyping, "type");
  if (other == nullptr && schema.contains("type")) {
    if (sole != "const" && sole != "enum") {
      other = "type";
    } else {
      const json values = sole == "enum" ? schema["enum"] : json::array({schema["const"]});
      for (const json& value : values) {
        if (!HasType(value, schema["type"])) other = "type";
      }
    }
  }
  if (other == nullptr) return absl::OkStatus();
  return Refuse(path, other, absl::StrCat("beside ", sole, " is not supported"));
}

absl::Status Check(const json& schema, const std::string& path) {
  if (!schema.is_object()) return absl::OkStatus();
  if (const char* keyword = FirstOf(schema, kUnknown)) {
    return Refuse(path, keyword, "is not supported");
  }
  if (schema.contains("uniqueItems") && schema["uniqueItems"] != false) {
    return Refuse(path, "uniqueItems", "is not supported");
  }
  if (const char* sole = FirstOf(schema, kSole)) {
    RETURN_IF_ERROR(CheckSole(schema, sole, path));
  } else if (FirstOf(schema, kTyping) == nullptr) {
    const char* keyword = FirstOf(schema, kRestricting);
    if (keyword != nullptr) return Refuse(path, keyword, "without type is not supported");
  }
  for (const char* keyword : kSubschema) {
    if (!schema.contains(keyword)) continue;
    RETURN_IF_ERROR(Check(schema[keyword], absl::StrCat(path, "/", keyword)));
  }
  for (const char* keyword : kSubschemaLists) {
    if (!schema.contains(keyword) || !schema[keyword].is_array()) continue;
    for (size_t i = 0; i < schema[keyword].size(); ++i) {
      RETURN_IF_ERROR(Check(schema[keyword][i], absl::StrCat(path, "/", keyword, "/", i)));
    }
  }
  for (const char* keyword : kSubschemaMaps) {
    if (!schema.contains(keyword) || !schema[keyword].is_object()) continue;
    for (const auto& [name, subschema] : schema[keyword].items()) {
      RETURN_IF_ERROR(Check(subschema, absl::StrCat(path, "/", keyword, "/", name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSchemaKeywords(const std::string& schema) {
  const json parsed = json::parse(schema, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError("not JSON");
  return Check(parsed, "");
}

}  // namespace adamoe
