// What a completion goes on from: prompts of /v1/completions, messages of /v1/chat/completions.
// Errors go to `fields`. Pure functions.
#ifndef ADAMOE_SERVER_HTTP_OPENAI_INPUT_H_
#define ADAMOE_SERVER_HTTP_OPENAI_INPUT_H_

#include <optional>
#include <string>

#include "server/http/field_reader.h"
#include "server/http/json_document.h"
#include "server/http/openai_request.h"

namespace adamoe {

// Token ids, or nothing and an error.
std::optional<OpenAiRequest::Ids> ReadIds(const Json& array, const std::string& name,
                                          FieldReader& fields);

void ReadPrompts(FieldReader& fields, OpenAiRequest& request);
void ReadMessages(FieldReader& fields, OpenAiRequest& request);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_OPENAI_INPUT_H_
