#include "server/structured/json_schema.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace adamoe {
namespace {

using Json = nlohmann::json;

constexpr const char* kUnfollowed[] = {
    "not",      "if",          "then",       "else", "dependentRequired", "dependentSchemas",
    "contains", "minContains", "maxContains"};
// Their members are schemas, whatever their names.
constexpr const char* kNamedSchemas[] = {"properties", "patternProperties", "$defs", "definitions"};
// Values that hold no schemas.
constexpr const char* kPlainValues[] = {"const", "enum", "default", "examples"};

template <size_t n>
bool IsOneOf(const std::string& key, const char* const (&keys)[n]) {
  return std::find(std::begin(keys), std::end(keys), key) != std::end(keys);
}

// In a schema, or in an array of them.
std::string Find(const Json& schema) {
  if (schema.is_array()) {
    for (const Json& element : schema) {
      if (std::string found = Find(element); !found.empty()) return found;
    }
  }
  if (!schema.is_object()) return "";
  for (const auto& [key, value] : schema.items()) {
    if (IsOneOf(key, kUnfollowed) || (key == "uniqueItems" && value == true)) return key;
    if (IsOneOf(key, kPlainValues)) continue;
    if (IsOneOf(key, kNamedSchemas) && value.is_object()) {
      for (const Json& named : value) {
        if (std::string found = Find(named); !found.empty()) return found;
      }
    } else if (std::string found = Find(value); !found.empty()) {
      return found;
    }
  }
  return "";
}

}  // namespace

std::string UnfollowedKeyword(const std::string& schema) {
  return Find(Json::parse(schema, nullptr, /*allow_exceptions=*/false));
}

}  // namespace adamoe
