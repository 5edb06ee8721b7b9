// The parts of a JSON Schema that XGrammar passes over without a word, which it must not where
// output is promised to be valid. Pure functions.
#ifndef ADAMOE_SERVER_STRUCTURED_SCHEMA_KEYWORDS_H_
#define ADAMOE_SERVER_STRUCTURED_SCHEMA_KEYWORDS_H_

#include <string>

#include "absl/status/status.h"

namespace adamoe {

// INVALID_ARGUMENT names the first keyword that has no effect on the grammar, and where it stands.
// Recurses as deep as the schema does.
absl::Status CheckSchemaKeywords(const std::string& schema);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_SCHEMA_KEYWORDS_H_
