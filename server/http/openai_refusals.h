// What OpenAI's API knows and this server cannot do, refused by name where it would change the
// answer. Pure functions.
#ifndef ADAMOE_SERVER_HTTP_OPENAI_REFUSALS_H_
#define ADAMOE_SERVER_HTTP_OPENAI_REFUSALS_H_

#include "server/http/field_reader.h"
#include "server/http/openai_request.h"

namespace adamoe {

// Fails `fields` for what is asked for and not done.
void RefuseUnsupported(OpenAiApi api, FieldReader& fields);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_OPENAI_REFUSALS_H_
