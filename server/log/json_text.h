// JSON out of strings that may hold any bytes: what is no UTF-8 becomes U+FFFD. Pure functions.
#ifndef ADAMOE_SERVER_LOG_JSON_TEXT_H_
#define ADAMOE_SERVER_LOG_JSON_TEXT_H_

#include <nlohmann/json.hpp>
#include <string>

namespace adamoe {

// On one line.
inline std::string JsonText(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// The same in printable ASCII: every other character is escaped.
inline std::string AsciiJson(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_LOG_JSON_TEXT_H_
