// What XGrammar passes over in a JSON schema without a word. Pure.
#ifndef ADAMOE_SERVER_STRUCTURED_JSON_SCHEMA_H_
#define ADAMOE_SERVER_STRUCTURED_JSON_SCHEMA_H_

#include <string>

namespace adamoe {

// A keyword in `schema` (JSON text) that XGrammar knows and does not follow, as "not"; empty when
// there is none, or when the text is not JSON.
std::string UnfollowedKeyword(const std::string& schema);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_JSON_SCHEMA_H_
